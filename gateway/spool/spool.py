"""The spool: where messages wait on this machine's disk while RabbitMQ cannot take them, so that no sender notices.

Order: while anything waits in the spool, whatever comes goes there too, in whichever process it arrives. So a message
whose 202 was seen before another was sent is on the queue before it.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from loguru import logger

from gateway.dependency import ConnectionWatcher, Degraded, Full
from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError, NotDone, NotOurs, explain
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.spool.mover import SpoolMover
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused, BrokerUnknown

# What is being moved when the gateway ends may finish; what does not is moved again after the next start.
_STOP_SECONDS = 1.0


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
        # Of its own: it is read on the event loop (some microseconds), and must not wait for another thread's reading.
        self._reader = Reader(database.path)

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

    async def publish(self, envelope: Envelope) -> None:
        """See ``Outbox.publish``. Raises ``SpoolFull``; what comes at the same moment may get beyond the limit."""
        with suppress(DatabaseError):
            messages = self.depth().messages
            if messages >= self._limit:
                raise SpoolFull(self._full(messages))
        await self.outbox.publish(envelope)

    def _full(self, messages: int) -> str:
        return f"the spool is full: {messages} messages wait, {self._limit} may"


class SpoolingOutbox:
    """The ports ``Outbox`` and ``Dependency`` on ``broker``, with ``spool`` for what the broker does not take.

    Whatever the broker refuses is spooled: the protocol does not tell a full queue from one that has failed. What it
    leaves unknown is spooled too, under the same tracking_id: it is then certainly stored, and perhaps twice, which the
    delivery side has to expect in any case. Unknown is also what takes longer than ``patience_seconds``: a healthy
    broker confirms in milliseconds, and few requests should wait together for one that is dead.

    ``on_spooled`` is called for each message that the spool has taken, ``on_moved`` with the number of those that the
    broker has confirmed since.
    """

    name = "broker"

    def __init__(
        self,
        broker: RabbitOutbox,
        spool: Spool,
        *,
        patience_seconds: float = 1.0,
        on_spooled: Callable[[], object] = lambda: None,
        on_moved: Callable[[int], object] = lambda messages: None,
    ) -> None:
        self.broker = broker
        self.spool = spool
        self._mover = SpoolMover(spool, broker, on_moved)
        self._patience_seconds = patience_seconds
        self._moving: asyncio.Task[None] | None = None
        self._on_spooled = on_spooled
        self._is_spooling = False

    async def start(self) -> None:
        """Begin to connect, and to move what waits."""
        await self.broker.start()
        await self.spool.start()
        self._moving = asyncio.create_task(self._mover.run(), name="spool")

    async def ping(self) -> None:
        """The broker's own state: the spool is a dependency of its own in health reports."""
        await self.broker.ping()

    async def close(self) -> None:
        """Let what is being moved finish, for a moment, and close both."""
        if self._moving is not None:
            self._mover.stop()
            await asyncio.wait({self._moving}, timeout=_STOP_SECONDS)
            self._moving.cancel()
            await asyncio.wait({self._moving})
        await self.broker.close()
        await self.spool.close()

    async def publish(self, envelope: Envelope) -> None:
        """See ``Outbox.publish``."""
        disk_failure: BrokerRefused | None = None
        if self.spool.is_waited_in():
            try:
                await self._keep(envelope)
            except SpoolFull:
                raise
            except BrokerRefused as error:
                # Better out of order than not at all: the broker may be there again.
                disk_failure = error
            else:
                return
        failure = await self._failure_to_publish(envelope)
        if failure is None:
            return
        if disk_failure is None:
            try:
                await self._keep(envelope)
            except BrokerRefused as error:
                disk_failure = error
            else:
                self._tell(failure)
                return
        # The spool certainly does not have it; whether the broker does, the broker's failure says.
        raise type(failure)(f"{failure}; {disk_failure}") from disk_failure

    async def _failure_to_publish(self, envelope: Envelope) -> BrokerRefused | BrokerUnknown | None:
        """What became of an attempt on the broker; None when it has confirmed."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self.broker.publish(envelope)
        except (BrokerRefused, BrokerUnknown) as failure:
            return failure
        except TimeoutError:
            return BrokerUnknown(f"RabbitMQ has not confirmed within {self._patience_seconds:g} s")
        self._is_spooling = False
        return None

    async def _keep(self, envelope: Envelope) -> None:
        await self.spool.publish(envelope)
        self._on_spooled()

    def _tell(self, failure: Exception) -> None:
        if not self._is_spooling:
            self._is_spooling = True
            logger.bind(cause=str(failure)).warning("messages wait in the spool until RabbitMQ takes them")


def _select_depth(cursor: sqlite3.Cursor) -> tuple[int, int] | None:
    # From both ends of the table: counting would read all of it, and messages leave it in the order of their coming.
    found: tuple[int, int] | None = cursor.execute(
        "SELECT (SELECT max(position) FROM messages) - position + 1, created_at FROM messages ORDER BY position LIMIT 1"
    ).fetchone()
    return found
