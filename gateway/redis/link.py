"""One connection that all calls share: those of one event-loop iteration leave together, replies come in order.

This is the transport to one server, which may be another one after each loss of the connection (``Place.find``).
``gateway.redis.cluster`` has one of these for each node.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

import hiredis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.dependency import ConnectionWatcher
from gateway.redis.address import Address, Connection
from gateway.redis.session import REPLICA, Call, Session
from gateway.tls.diagnosis import silent
from pipeline.timing.timeouts import Timeouts, fail, pause

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 1.0
_PAUSE_SECONDS = (0.1, 5.0)
# A write that changes nothing: who refuses it is a replica, or cannot write. Nobody uses the key.
_WRITE = ("DEL", "claim:{}:ping")
_GREETING = hiredis.pack_command(("PING",)) + hiredis.pack_command(_WRITE)  # type: ignore[arg-type]  # any length


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

    A call never waits for a place, and takes ``call_seconds`` at most. One that is cancelled or has no reply in time
    leaves the connection as it should be: its reply is read when it comes, and dropped. When calls are in flight and
    nothing arrives for twice that time the connection is given up: it may be half-open.
    """

    def __init__(self, address: Place, call_seconds: float, on_connection: ConnectionWatcher) -> None:
        self.address = address
        self._silence_seconds = 2 * call_seconds
        self._on_connection = on_connection
        # Why calls are refused at once; None while connected, and during an attempt, for which they wait.
        self._down: str | None = "not started"
        # Why the last attempt to connect failed; None while connected.
        self._failed: str | None = None
        # While a session is ready and something is unsent, a flush is under way.
        self._unsent: list[tuple[Call, bytes]] = []
        self._session: Session | None = None
        self._timeouts: Timeouts[Call] = Timeouts(call_seconds, fail)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._down = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="redis link")

    async def close(self) -> None:
        """Disconnect; calls that are under way raise ``ConnectionError``."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: its cancellation and that of the caller must not be taken for one another.
            await asyncio.wait([self._task])
        self._refuse("closed by this gateway")

    async def ping(self) -> None:
        """Return when the server has taken a write. Raises as ``execute``."""
        try:
            await self.execute(*_WRITE)
        except TimeoutError:
            if self._failed is None:
                raise
            # It waited for an attempt that goes as the one before.
            raise NotSent(self._failed) from None

    def execute(self, *command: bytes | str | int) -> Call:
        """The reply to ``command``: bytes, int, None, or a list of such.

        Raises ``NotSent``, at once or when it is awaited, the ``ResponseError`` that the server answered, and
        ``TimeoutError`` or ``ConnectionError`` when there was no reply in time, or the connection was lost: then the
        command may have been carried out, or be so later.
        """
        if self._down is not None:
            raise NotSent(self._down)
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length
        loop = self._loop
        assert loop is not None
        call: Call = loop.create_future()
        self._timeouts.add(call)
        if not self._unsent:
            # With all other calls of this event-loop iteration.
            loop.call_soon(self._flush)
        self._unsent.append((call, packed))
        return call

    def _flush(self) -> None:
        session = self._session
        if session is None or not session.is_ready:
            return
        # What was given up before it was sent is not sent at all.
        batch = [one for one in self._unsent if not one[0].done()]
        self._unsent.clear()
        if batch:
            session.send(batch)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        task = asyncio.current_task()
        assert task is not None
        least, most = _PAUSE_SECONDS
        failures = 0
        while True:
            self._down = None
            began = clock()
            reason = await self._live()
            if task.cancelling():
                return  # Before Python 3.13 a task group that has just failed keeps the cancellation to itself.
            if clock() - began > most:
                # It served until now: the next attempt follows at once, and what was not sent yet waits for it.
                failures = 0
                _logger.warning("Redis at %s: connection lost: %s", self.address, reason)
                continue
            if not failures:
                _logger.warning("Redis at %s: %s", self.address, reason)
            self._failed = reason
            self._refuse(reason)
            await asyncio.sleep(min(most, least * 2.0**failures) * random.uniform(0.5, 1))  # noqa: S311 - jitter
            failures = min(failures + 1, 10)

    async def _live(self) -> str:
        """One connection from the attempt to its end; returns why it ended."""
        found: Address | None = None
        connection: Connection | None = None
        reason = "closed by this gateway"
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                found = await self.address.find()
                connection = found.connection()
                with found.explained():
                    await _greet(connection)
            self._session = Session(connection, self._flush, self._timeouts)
            self._failed = None
            _logger.info("Redis at %s: connected", self.address)
            self._on_connection(True)
            try:
                self._flush()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch(self._session))
                    await self._session.lost
            finally:
                self._on_connection(False)
        except* TimeoutError:
            reason = (
                f"no answer to the connection attempt within {_CONNECT_SECONDS:g} s: see whether the server hangs, and "
                f"whether the address and the firewalls are right{silent(found.tls) if found else ''}"
            )
        except* Exception as group:  # noqa: BLE001 - see below
            # Whatever it was, a bug included, only a new connection helps.
            error = group.exceptions[0]
            reason = self.address.without_secret(str(error) or type(error).__name__)
        finally:
            if self._session is not None:
                self._session.close(f"connection lost: {reason}")
                self._session = None
            if connection is not None:
                await connection.disconnect(nowait=True)
        return reason

    async def _watch(self, session: Session) -> None:
        while True:
            waiting, replies = bool(session.in_flight), session.replies
            await pause(self._silence_seconds)
            if waiting and replies == session.replies:
                raise Disconnected(
                    f"no reply for {self._silence_seconds:g} s: the server or the network hangs"
                )

    def _refuse(self, reason: str) -> None:
        self._down = reason
        for call, _ in self._unsent:
            if not call.done():
                call.set_exception(NotSent(reason))
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
        raise Disconnected(REPLICA) from None
    except ResponseError:
        # Whatever else it has against writing, such as a full disk: what only reads is served. Or the key lies on
        # another node of a cluster.
        pass
