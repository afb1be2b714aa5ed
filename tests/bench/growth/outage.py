"""How soon a spool is empty again: a load as before, RabbitMQ stopped in its tracks for a while, and then let go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.bench.growth import load
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import folder
from tests.support.gateways import SEND, Backend, Gateway, key_of
from tests.support.servers import RabbitServer, RedisServer

SHARE = 0.7
"""Of the highest rate that is served without an outage."""

BOUND_SECONDS = 60.0
"""After RabbitMQ is back, the backlog of an outage of 10 s is to be gone."""

OUTAGE_SECONDS = 10.0

_CONNECTIONS = 64
_MOST_CONNECTIONS = 400
_GIVE_UP_SECONDS = 2 * BOUND_SECONDS
_WARM_UP_SECONDS = 2.0


def random_numbers() -> Iterator[str]:
    """Hardly any number comes twice."""
    while True:
        yield f"+98912{random.randrange(10**7):07}"


def pairs() -> Iterator[str]:
    """Two messages in a row to each number, as a code and its reminder, or a long text in two."""
    for number in random_numbers():
        yield number
        yield number


def one_number() -> Iterator[str]:
    """Everything to one."""
    while True:
        yield "+989121234567"


NUMBERS: dict[str, Callable[[], Iterator[str]]] = {
    "random": random_numbers,
    "pairs": pairs,
    "one": one_number,
}


def measure(seconds: float) -> list[Table]:
    """For each kind of numbers: the highest rate, served for so long, and the outage under its greater part."""
    table = Table(
        "outage",
        f"An outage of {OUTAGE_SECONDS:g} s under {SHARE:.0%} of the highest rate, with a spool (quorum queue)",
        (
            "numbers",
            "highest rate/s",
            "offered/s",
            "served/s",
            "not accepted",
            "most in the spool",
            "when RabbitMQ is back",
            "empty after s",
        ),
    )
    for name, numbers in NUMBERS.items():
        say(f"numbers: {name}")
        with folder() as directory, RedisServer() as store, RabbitServer() as broker:
            backend = Backend("servers", store.url, broker.url)
            spool = directory / "spool.db"
            environ = {**backend.environ(), "RABBITMQ_SPOOL": str(spool), "LOG_LEVEL": "WARNING"}
            with Gateway(directory, environ) as gateway:
                request = requests(numbers())
                load.send(gateway.port, _CONNECTIONS, min(_WARM_UP_SECONDS, seconds), request)
                done = load.send(gateway.port, _CONNECTIONS, seconds, request)
                highest = done.accepted / done.elapsed
                until_empty(spool, _GIVE_UP_SECONDS)
                outage = asyncio.run(endure(gateway, broker, spool, highest * SHARE, request))
        table.add(
            name,
            highest,
            highest * SHARE,
            outage.answers[202] / outage.elapsed,
            outage.answers.total() - outage.answers[202],
            outage.most,
            outage.at_return,
            outage.seconds if outage.seconds is not None else f"not within {_GIVE_UP_SECONDS:g}",
        )
    return [table]


def requests(numbers: Iterator[str]) -> Callable[[], bytes]:
    """Makes requests without a key, each to the next number."""

    def request() -> bytes:
        body = json.dumps({"to": next(numbers), "text": load.TEXT}).encode()
        return (
            f"POST {SEND} HTTP/1.1\r\nHost: gateway\r\nAPI-Key: {key_of('acme')}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    return request


@dataclass
class Outage:
    """What came of it; ``seconds`` from RabbitMQ's return to an empty spool, None when that took too long."""

    answers: Counter[int] = field(default_factory=Counter)
    elapsed: float = 0.0
    most: int = 0
    at_return: int = 0
    seconds: float | None = None


async def endure(
    gateway: Gateway, broker: RabbitServer, spool: Path, rate: float, request: Callable[[], bytes]
) -> Outage:
    """Offer so many requests a second, and take RabbitMQ away in the middle."""
    outage = Outage()
    started = time.perf_counter()
    sending = asyncio.create_task(_Pace(gateway.port, rate, request, outage.answers).run())
    await asyncio.sleep(_WARM_UP_SECONDS)
    broker.pause()
    try:
        await _watch(spool, outage, OUTAGE_SECONDS)
    finally:
        broker.resume()
    outage.at_return = waiting(spool)
    back = time.perf_counter()
    await _watch(spool, outage, _GIVE_UP_SECONDS, until_empty=True)
    if not waiting(spool):
        outage.seconds = time.perf_counter() - back
    outage.elapsed = time.perf_counter() - started
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    return outage


async def _watch(spool: Path, outage: Outage, seconds: float, *, until_empty: bool = False) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        now = waiting(spool)
        outage.most = max(outage.most, now)
        if until_empty and not now:
            return
        await asyncio.sleep(0.1)


def waiting(spool: Path) -> int:
    """How many messages are in the file, counted from the first position to the last."""
    with contextlib.closing(sqlite3.connect(spool, timeout=10)) as connection:
        first, last = connection.execute("SELECT min(position), max(position) FROM messages").fetchone()
    return 0 if first is None else last - first + 1


def until_empty(spool: Path, seconds: float) -> None:
    """Wait until nothing is left of what came before. Raises ``TimeoutError``."""
    end = time.perf_counter() + seconds
    while waiting(spool):
        if time.perf_counter() > end:
            raise TimeoutError(f"{waiting(spool)} messages wait in the spool without an outage")
        time.sleep(0.1)


class _Pace:
    """Sends at a rate whatever comes of it, on as many connections as that takes, within bounds."""

    def __init__(self, port: int, rate: float, request: Callable[[], bytes], answers: Counter[int]) -> None:
        self._port = port
        self._rate = rate
        self._request = request
        self._answers = answers
        self._free: list[_Connection] = []
        self._connections = 0

    async def run(self) -> None:
        """Send for ever."""
        loop = asyncio.get_running_loop()
        started, sent = loop.time(), 0
        while True:
            due = int((loop.time() - started) * self._rate)
            while sent < due and (connection := await self._connection()) is not None:
                connection.send(self._request())
                sent += 1
            # What the senders have no connection for now is not offered later.
            sent = due
            await asyncio.sleep(0.002)

    async def _connection(self) -> _Connection | None:
        if self._free:
            return self._free.pop()
        if self._connections >= _MOST_CONNECTIONS:
            return None
        self._connections += 1
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(
            lambda: _Connection(self._answers, self._free.append), "127.0.0.1", self._port
        )
        return made[1]


class _Connection(asyncio.Protocol):
    """Tells ``free`` when it has its answer."""

    def __init__(self, answers: Counter[int], free: Callable[[_Connection], None]) -> None:
        self._answers = answers
        self._free = free
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send one request."""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if separator and len(body) >= load.content_length(head):
            self._answers[int(head[9:12])] += 1
            self._received = b""
            self._free(self)
