"""The file in which messages wait on this machine's disk while RabbitMQ cannot take them."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from gateway.dependency import ConnectionWatcher, Degraded, Full
from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError, NotDone, NotOurs, explain
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.spool.numbers import WaitingNumbers
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused

# Messages to one number that are stored together need not wait for each other when they are moved.
_GATHER_SECONDS = 0.01
# And of those for whose number others wait already, only so many get on their way in the time of a confirm: it must be
# several times as long as RabbitMQ's confirms, a busy one's too, or one number alone comes faster than it leaves.
_GATHER_BEHIND_OTHERS_SECONDS = 0.05


class SpoolFull(BrokerRefused):
    """The spool holds as many messages as it may."""


class Depth(NamedTuple):
    """How many messages wait, and since when the oldest of them does: seconds since its request arrived."""

    messages: int
    oldest_seconds: float


class Spool:
    """The messages that wait, in the file of ``database``: about ``limit`` of them, shared by all processes.

    ``on_connection`` is told when the file becomes usable and when it ceases to be.
    """

    name = "spool"

    def __init__(
        self, database: Database, limit: int, *, on_connection: ConnectionWatcher = lambda up: None
    ) -> None:
        self.outbox = EmbeddedOutbox(database, on_connection=on_connection)
        self.path = database.path
        self._limit = limit
        self._numbers = WaitingNumbers()
        self._gathering: dict[float, asyncio.Future[None]] = {}
        # Of its own: it is read on the event loop (some microseconds), and must not wait for another thread's reading,
        # nor for anybody else.
        self._reader = Reader(database.path, patience_seconds=0.0)

    async def start(self) -> None:
        """Open the file, now or as soon as it can be."""
        await self.outbox.start()

    async def ping(self) -> None:
        """Return when the file has just been written to and nothing waits in it.

        Raises ``Degraded`` while something waits, ``Full``, or ``DatabaseError`` with the reason.
        """
        await self.outbox.ping()
        depth = self.depth()
        if depth.messages >= self._limit:
            raise Full(self._full(depth.messages))
        if depth.messages:
            raise Degraded(f"{depth.messages} messages wait, the oldest for {depth.oldest_seconds:.1f} s")

    async def close(self) -> None:
        """Finish what was accepted."""
        self._reader.close()
        await self.outbox.close()

    def depth(self) -> Depth:
        """What waits now, counted from the first position to the last. Raises ``NotDone`` with the reason."""
        try:
            found = self._reader.read(_select_depth)
        except (sqlite3.Error, OSError, NotOurs) as error:
            raise NotDone(explain(self.path, error)) from error
        if found is None:
            return Depth(0, 0.0)
        messages, created_at = found
        return Depth(messages, max(0.0, time.time() - created_at / 1000))

    def look(self) -> tuple[float, float]:
        """The depth for metrics, which say that they do not know (NaN) while the file cannot be read."""
        try:
            return self.depth()
        except DatabaseError:
            return math.nan, math.nan

    def is_waited_in(self) -> bool:
        """Whether any message waits, as far as the file can tell."""
        with suppress(DatabaseError):
            return self.depth().messages > 0
        return False

    def look_for(self, number: str) -> tuple[int, bool]:
        """How many messages wait, as far as the file can tell, and whether one of them is to this number."""
        with suppress(sqlite3.Error, OSError, NotOurs):
            return self._reader.read(partial(self._numbers.look_for, number))
        return 0, False

    async def publish(self, envelope: Envelope) -> None:
        """See ``Outbox.publish``. Raises ``SpoolFull``; what comes at the same moment may get beyond the limit."""
        messages, is_waited_for = self.look_for(envelope.message.to)
        if messages >= self._limit:
            raise SpoolFull(self._full(messages))
        await self._gather(_GATHER_BEHIND_OTHERS_SECONDS if is_waited_for else _GATHER_SECONDS)
        await self.outbox.publish(envelope)

    async def _gather(self, seconds: float) -> None:
        """Wait until those who come meanwhile can be stored in one write batch."""
        gathering = self._gathering.get(seconds)
        if gathering is None:
            loop = asyncio.get_running_loop()
            gathering = self._gathering[seconds] = loop.create_future()
            loop.call_later(seconds, self._end_gathering, seconds)
        # Shielded: who is cancelled takes nobody else along.
        await asyncio.shield(gathering)

    def _end_gathering(self, seconds: float) -> None:
        self._gathering.pop(seconds).set_result(None)

    def _full(self, messages: int) -> str:
        return f"the spool is full: {messages} messages wait, {self._limit} may"


def _select_depth(cursor: sqlite3.Cursor) -> tuple[int, int] | None:
    # From both ends of the table: counting would read all of it, and messages leave it in the order of their coming.
    found: tuple[int, int] | None = cursor.execute(
        "SELECT (SELECT max(position) FROM messages) - position + 1, created_at FROM messages ORDER BY position LIMIT 1"
    ).fetchone()
    return found
