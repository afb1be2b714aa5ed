"""Heartbeats in the file, behind the port ``HeartbeatBus``: every process reads what all processes write."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError, MaybeDone, NotDone
from gateway.embedded.schema import now_ms
from pipeline.ports import BrokerRefused, BrokerUnknown

_logger = logging.getLogger(__name__)

_SEND_SECONDS = 5.0


class EmbeddedHeartbeats:
    """The bus on ``database``. Looks for new heartbeats every ``poll_seconds``; hears those sent after ``start``."""

    def __init__(self, database: Database, *, poll_seconds: float = 2.0) -> None:
        self.database = database
        self._poll_seconds = poll_seconds
        self._receive: Callable[[bytes], None] | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen."""
        await self.database.start()
        if self._receive is not None:
            # What is sent from now on is heard, however late the task gets to run.
            self._listening = asyncio.create_task(self._listen(self._receive, now_ms()))

    async def close(self) -> None:
        """End listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None
        await self.database.close()

    async def send(self, heartbeat: bytes) -> None:
        """See ``HeartbeatBus.send``."""
        try:
            await self.database.run(partial(_insert, heartbeat=heartbeat), _SEND_SECONDS)
        except NotDone as error:
            raise BrokerRefused(str(error)) from error
        except MaybeDone as error:
            raise BrokerUnknown(str(error)) from error

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """See ``HeartbeatBus.listen``."""
        self._receive = receive

    async def _listen(self, receive: Callable[[bytes], None], started_at: int) -> None:
        position: int | None = None
        failing = False
        with suppress(DatabaseError):
            # A new file has no tables to look into before the writer has opened it.
            await self.database.ping()
        while True:
            try:
                position, arrived = await self.database.read(
                    partial(_select, after=position, started_at=started_at)
                )
                failing = False
            except NotDone as error:
                if not failing:
                    _logger.warning("cannot read heartbeats: %s", error)
                failing, arrived = True, []
            for heartbeat in arrived:
                try:
                    receive(heartbeat)
                except Exception:
                    _logger.exception("a heartbeat could not be handled")
            await asyncio.sleep(self._poll_seconds)


def _insert(cursor: sqlite3.Cursor, heartbeat: bytes) -> None:
    cursor.execute("INSERT INTO heartbeats (body, sent_at) VALUES (?, ?)", (heartbeat, now_ms()))


def _select(cursor: sqlite3.Cursor, after: int | None, started_at: int) -> tuple[int, list[bytes]]:
    """The last position, and the heartbeats behind ``after``; at first, those sent since ``started_at``."""
    (last,) = cursor.execute("SELECT coalesce(max(id), 0) FROM heartbeats").fetchone()
    if after is None:
        # What is of a later time than now was sent before, by a clock that has been set back since.
        query = "SELECT id, body FROM heartbeats WHERE sent_at BETWEEN ? AND ? ORDER BY id"
        bounds: tuple[int, ...] = (started_at, now_ms())
    else:
        query = "SELECT id, body FROM heartbeats WHERE id > ? ORDER BY id"
        # In a file that took the place of a lost one, positions begin again.
        bounds = (after if after <= last else 0,)
    rows = cursor.execute(query, bounds).fetchall()
    return (rows[-1][0] if rows else last), [body for _, body in rows]
