"""One open connection: the commands of one event-loop iteration leave in one write, replies come in their order."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, ReadOnlyError, ResponseError

from gateway.redis.address import Connection
from pipeline.timing.timeouts import Timeouts

REPLICA = (
    "the server is a replica, which refuses writes: give the primary's address, or the Sentinels' (redis+sentinel://), "
    "which know it after each fail-over"
)

Call = asyncio.Future[Any]
"""Who waits for a reply; a call that is done was given up, and its reply is dropped."""

_CLOSED = "closed by the server, or by a proxy before it"
_UNASKED = (
    "a reply that belongs to no command: see whether a proxy mixes up connections, or no Redis listens there"
)
_INCOMPLETE = object()
# Redis before 7 wraps what a command in a script was refused with.
_IN_SCRIPT = re.compile(r"ERR Error running script .* -((?:OOM|READONLY) .*)")


def _error(text: str) -> Exception:
    """The exception for an error reply: redis-py's for what the command that failed in a script was refused with."""
    inner = _IN_SCRIPT.fullmatch(text)
    error: Exception = DefaultParser.parse_error(inner[1] if inner else text)  # type: ignore[no-untyped-call]
    return error


class Session(asyncio.Protocol):
    """Reads and writes on a connection that redis-py has opened and logged in.

    redis-py would take two coroutines and two wake-ups for each reply, this takes one pass of a loop. A reply or an
    error is the same as redis-py's own. ``lost`` ends in the error after which the connection is of no more use.
    ``on_drained`` is called when it is ready again after it was not. A call waits in ``timeouts`` until its reply.
    """

    def __init__(
        self, connection: Connection, on_drained: Callable[[], None], timeouts: Timeouts[Call]
    ) -> None:
        reader, writer = connection._reader, connection._writer  # noqa: SLF001 - redis-py has no other way to them
        assert reader is not None
        assert writer is not None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies = 0
        """How many there have been."""
        self.in_flight: deque[Call] = deque()
        """The calls that wait for a reply, in the order in which they were sent."""
        self._on_drained = on_drained
        self._timeouts = timeouts
        self._is_full = False
        # No pushes to tell from replies: they come with RESP3 only, and the address asks for RESP2.
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_error, notEnoughData=_INCOMPLETE
        )
        self._transport = writer.transport
        self._transport.set_protocol(self)
        if reader.at_eof() or self._transport.is_closing():
            self._end(Disconnected(_CLOSED))

    @property
    def is_ready(self) -> bool:
        """Whether to send: not when it is lost, nor while the server is slow to take what was sent before."""
        return not (self._is_full or self.lost.done())

    def send(self, calls: Sequence[tuple[Call, bytes]]) -> None:
        """Send packed commands."""
        self.in_flight.extend([call for call, _ in calls])
        self._transport.write(b"".join([packed for _, packed in calls]))

    def close(self, reason: str) -> None:
        """Drop the connection; what is in flight on it raises ``ConnectionError``."""
        self.lost.cancel()
        self._transport.abort()
        for call in self.in_flight:
            if not call.done():
                call.set_exception(Disconnected(reason))
        self.in_flight.clear()

    def data_received(self, data: bytes) -> None:
        """Give each reply in ``data`` to its call."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                if isinstance(reply, Exception):
                    self._refuse(reply)
                    continue
                self.replies += 1
                call = self.in_flight.popleft()
                self._timeouts.discard(call)
                if not call.done():
                    call.set_result(reply)
        except IndexError:
            self._end(Disconnected(_UNASKED))
        except Exception as error:  # noqa: BLE001 - a bug included: only a new connection helps
            self._end(error)

    def pause_writing(self) -> None:
        """Send no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._is_full = False
        self._on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is over."""
        self._end(Disconnected(str(exc) if exc else _CLOSED))

    def _refuse(self, error: Exception) -> None:
        # A server that wants a password, or is loading its data, serves no call at all.
        if not isinstance(error, ResponseError):
            raise error
        self.replies += 1
        call = self.in_flight.popleft()
        self._timeouts.discard(call)
        if not call.done():
            call.set_exception(error)
        if isinstance(error, ReadOnlyError):
            raise Disconnected(REPLICA)

    def _end(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_exception(error)
