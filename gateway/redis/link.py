"""One connection that all calls share: those of one loop turn go out together, replies come back in order.

This is the transport to one server, which may be another one after each loss of the connection (``Place.find``).
``gateway.redis.cluster`` has one of these for each node.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.dependency import ConnectionWatcher
from gateway.redis.address import Address, Connection
from gateway.redis.bound import pause

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 1.0
_PAUSE_SECONDS = (0.1, 5.0)
# A write that changes nothing: who refuses it is a replica, or cannot write. Nobody uses the key.
_WRITE = ("DEL", "claim:{}:ping")
_GREETING = hiredis.pack_command(("PING",)) + hiredis.pack_command(_WRITE)  # type: ignore[arg-type]  # any length

_REPLICA = "the server is a replica, which takes no writes"

_Call = asyncio.Future[Any]


class NotSent(Disconnected):
    """The command was not sent, or not taken, and will not be: there was no connection, or no node for it."""


class Place(Protocol):
    """Where a server is to be found."""

    async def find(self) -> Address:
        """Where it is now. Raises ``RedisError``."""

    def without_secret(self, text: str) -> str:
        """``text`` without the passwords that may stand in an error."""


class Link:
    """Connects, and connects again for ever once started.

    A call never waits for a place, and one that is cancelled leaves the connection as it should be: its reply is read
    in its turn and dropped. When calls are in flight and nothing arrives for ``silence_seconds`` the connection is
    given up: the other side may have gone without a word.
    """

    def __init__(self, address: Place, silence_seconds: float, on_connection: ConnectionWatcher) -> None:
        self.address = address
        self._silence_seconds = silence_seconds
        self._on_connection = on_connection
        # Why calls are refused at once; None while connected, and during an attempt, for which they wait.
        self._down: str | None = "not started"
        self._unsent: list[tuple[_Call, bytes]] = []
        self._in_flight: deque[_Call] = deque()
        self._replies = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._down = None
        self._task = asyncio.create_task(self._run(), name="redis link")

    async def close(self) -> None:
        """Disconnect; calls that are under way raise ``ConnectionError``."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: its cancellation and that of the caller must not be taken for one another.
            await asyncio.wait([self._task])
        self._refuse("closed")

    async def ping(self) -> None:
        """Return when the server has taken a write. Raises as ``execute``."""
        await self.execute(*_WRITE)

    async def execute(self, *command: bytes | str | int) -> Any:
        """The reply to ``command``: bytes, int, None, or a list of such.

        Raises the ``ResponseError`` that the server answered, and ``ConnectionError`` when there is no connection, or
        when it is lost: then the command may have been carried out, or be so later. Waits as long as it takes: the
        caller bounds the time.
        """
        if self._down is not None:
            raise NotSent(self._down)
        call: _Call = asyncio.get_running_loop().create_future()
        self._unsent.append((call, hiredis.pack_command(command)))  # type: ignore[arg-type]  # any length
        self._wake.set()
        return await call

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        least, most = _PAUSE_SECONDS
        failures = 0
        while True:
            self._down = None
            began = clock()
            reason = await self._live()
            _fail(self._in_flight, Disconnected, f"connection lost: {reason}")
            self._in_flight.clear()
            if clock() - began > most:
                # It served until now: the next attempt follows at once, and what was not sent yet waits for it.
                failures = 0
                _logger.warning("Redis at %s: connection lost: %s", self.address, reason)
                continue
            if not failures:
                _logger.warning("Redis at %s: %s", self.address, reason)
            self._refuse(reason)
            await asyncio.sleep(min(most, least * 2.0**failures) * random.uniform(0.5, 1))  # noqa: S311 - jitter
            failures = min(failures + 1, 10)

    async def _live(self) -> str:
        """One connection from the attempt to its end; returns why it ended."""
        connection: Connection | None = None
        reason = ""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = (await self.address.find()).connection()
                await _greet(connection)
            _logger.info("Redis at %s: connected", self.address)
            self._on_connection(True)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._write(connection))
                    tasks.create_task(self._read(connection))
                    tasks.create_task(self._watch())
            finally:
                self._on_connection(False)
        except* TimeoutError:
            reason = f"no answer to the login within {_CONNECT_SECONDS:g} s"
        except* Exception as group:  # noqa: BLE001 - see below
            # Whatever it was, a bug included, only a new connection helps.
            error = group.exceptions[0]
            reason = self.address.without_secret(str(error) or type(error).__name__)
        finally:
            if connection is not None:
                await connection.disconnect(nowait=True)
        return reason

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            # What was given up before it was sent is not sent at all.
            batch = [(call, packed) for call, packed in self._unsent if not call.done()]
            self._unsent.clear()
            self._in_flight.extend(call for call, _ in batch)
            if batch:
                await connection.send_packed_command(
                    b"".join([packed for _, packed in batch]), check_health=False
                )

    async def _read(self, connection: Connection) -> None:
        while True:
            reply: Any
            try:
                reply = await connection.read_response()
            except ResponseError as error:
                reply = error
            self._replies += 1
            call = self._in_flight.popleft()
            if not call.done():
                if isinstance(reply, ResponseError):
                    call.set_exception(reply)
                else:
                    call.set_result(reply)
            if isinstance(reply, ReadOnlyError):
                raise Disconnected(_REPLICA)

    async def _watch(self) -> None:
        while True:
            waiting, replies = bool(self._in_flight), self._replies
            await pause(self._silence_seconds)
            if waiting and replies == self._replies:
                raise Disconnected(f"no reply for {self._silence_seconds:g} s")

    def _refuse(self, reason: str) -> None:
        self._down = reason
        _fail((call for call, _ in self._unsent), NotSent, reason)
        self._unsent.clear()


async def _greet(connection: Connection) -> None:
    """Connect, and see whether it is a primary that serves."""
    await connection.connect()
    await connection.send_packed_command(_GREETING, check_health=False)
    # Tells a server that wants a password or is loading its data from one that serves.
    await connection.read_response()
    try:
        await connection.read_response()
    except ReadOnlyError:
        raise Disconnected(_REPLICA) from None
    except ResponseError:
        # Whatever else it has against writing, such as a full disk: what only reads is served. Or the key lies on
        # another node of a cluster.
        pass


def _fail(calls: Iterable[_Call], kind: type[Disconnected], reason: str) -> None:
    for call in calls:
        if not call.done():
            call.set_exception(kind(reason))
