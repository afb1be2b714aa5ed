"""A small load: connections that send one message after the other, and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from tests.bench.growth.timing import percentile
from tests.support.gateways import NUMBER, SEND, key_of

TEXT = "Your code is 471122. It is valid for ten minutes. Do not give it to anybody, us included."


@dataclass
class Load:
    """The answers by status, and how long each took."""

    answers: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def accepted(self) -> int:
        """How many were answered with 202.

        Raises when more than a few were not: a busy machine makes a step miss its time now and then, but a figure over
        refusals would mean nothing.
        """
        if self.answers[202] < 0.99 * self.answers.total() or not self.answers:
            raise RuntimeError(f"too few were accepted: {dict(self.answers)}")
        return self.answers[202]

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latency."""
        return percentile(self.seconds, percent) * 1000


class _Sender(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, request: Callable[[], bytes], until: float, load: Load) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._until = until
        self._load = load
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return
        now = time.perf_counter()
        self._load.seconds.append(now - self._sent_at)
        self._load.answers[int(head[9:12])] += 1
        self._received = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request())


def send(port: int, connections: int, seconds: float, request: Callable[[], bytes]) -> Load:
    """Send for so long over so many connections."""
    return asyncio.run(_send(port, connections, seconds, request))


async def _send(port: int, connections: int, seconds: float, request: Callable[[], bytes]) -> Load:
    load = Load()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    until = started + seconds
    senders = [
        (await loop.create_connection(lambda: _Sender(request, until, load), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.wait([sender.ended for sender in senders])
    load.elapsed = time.perf_counter() - started
    return load


def requests(*, keyed: bool, text: str = TEXT) -> Callable[[], bytes]:
    """Makes requests, each a message of its own; a key is a UUID, as most senders have them."""
    body = json.dumps({"to": NUMBER, "text": text}, ensure_ascii=False).encode()
    head = (
        f"POST {SEND} HTTP/1.1\r\nHost: gateway\r\nAPI-Key: {key_of('acme')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    ).encode()
    if keyed:
        return lambda: b"%sIdempotency-Key: %s\r\n\r\n%s" % (head, str(uuid.uuid4()).encode(), body)
    whole = head + b"\r\n" + body
    return lambda: whole


def content_length(head: bytes) -> int:
    """How long the body of an answer is, by its head."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
