"""The outbox in the file, behind the port ``Outbox``: accepted messages wait here until they are moved on."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import orjson

from gateway.dependency import ConnectionWatcher
from gateway.embedded.database import Database
from gateway.embedded.failures import MaybeDone, NotDone
from gateway.embedded.schema import now_ms
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused, BrokerUnknown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Waiting(NamedTuple):
    """A stored message. Positions grow in the order of storing and are never used again; times are in UTC.

    ``stored_at`` is a moment just before it was stored; None when an earlier release did that.
    """

    position: int
    tracking_id: str
    body: bytes
    created_at: datetime
    expires_at: datetime
    stored_at: datetime | None = None


class EmbeddedOutbox:
    """The outbox on ``database``; ``publish`` returns when the message is on the disk.

    Until then it takes at most ``confirm_seconds``. ``on_connection`` is told when the file becomes usable and when it
    ceases to be.
    """

    name = "broker"

    def __init__(
        self,
        database: Database,
        *,
        confirm_seconds: float = 5.0,
        on_connection: ConnectionWatcher | None = None,
    ) -> None:
        self.database = database
        self._confirm_seconds = confirm_seconds
        if on_connection is not None:
            database.watch(on_connection)

    async def start(self) -> None:
        """Open the file, now or as soon as it can be."""
        await self.database.start()

    async def close(self) -> None:
        """Finish what was accepted."""
        await self.database.close()

    async def ping(self) -> None:
        """Return when the file has just been written to; raises ``DatabaseError`` with the reason otherwise."""
        await self.database.ping()

    async def publish(self, envelope: Envelope) -> None:
        """See ``Outbox.publish``. A tracking_id that still waits is not stored again."""
        row = (
            envelope.tracking_id,
            envelope.to_json(),
            (envelope.created_at - _EPOCH) // _MILLISECOND,
            (envelope.expires_at - _EPOCH) // _MILLISECOND,
        )
        try:
            await self.database.run(partial(_insert, row=row), self._confirm_seconds)
        except NotDone as error:
            raise BrokerRefused(str(error)) from error
        except MaybeDone as error:
            raise BrokerUnknown(str(error)) from error

    async def waiting(self, after: int = 0, limit: int = 100) -> list[Waiting]:
        """The first ``limit`` messages behind the position ``after``, in order. Raises ``NotDone``."""
        return await self.database.read(partial(select_waiting, after=after, limit=limit))

    async def count(self) -> int:
        """How many messages wait. Raises ``NotDone``."""
        return await self.database.read(count_waiting)

    async def remove(self, moved: Mapping[int, str]) -> None:
        """Forget messages that have been moved on, each tracking_id by its position. Raises ``DatabaseError``."""
        await self.database.run(partial(_delete, moved=moved), self._confirm_seconds, makes_room=True)


def _insert(cursor: sqlite3.Cursor, row: tuple[str, bytes, int, int]) -> None:
    # Not by ON CONFLICT, which uses up a position each time: the depth of a spool is told by its positions.
    cursor.execute(
        "INSERT INTO messages (tracking_id, body, created_at, expires_at, stored_at) SELECT ?, ?, ?, ?, ?"
        # Not ?1, which the first releases of Python 3.12 take for a name: github.com/python/cpython/issues/117995
        " WHERE NOT EXISTS (SELECT 1 FROM messages WHERE tracking_id = ?)",
        (*row, now_ms(), row[0]),
    )


def _delete(cursor: sqlite3.Cursor, moved: Mapping[int, str]) -> None:
    # By its id, too: in a file that took the place of a lost one another message may have the position.
    cursor.executemany("DELETE FROM messages WHERE position = ? AND tracking_id = ?", moved.items())


def select_waiting(cursor: sqlite3.Cursor, after: int, limit: int) -> list[Waiting]:
    """Stored messages behind a position, in order."""
    return [
        Waiting(
            position,
            tracking_id,
            body,
            _time(created_at),
            _time(expires_at),
            *map(_time, filter(None, stored_at)),
        )
        # All columns there are: a file that only an earlier release has opened has no `stored_at`.
        for position, tracking_id, body, created_at, expires_at, *stored_at in cursor.execute(
            "SELECT * FROM messages WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
        )
    ]


def recipient(body: bytes) -> str:
    """The number that a stored message goes to; empty for one that no disk has kept as it was written."""
    try:
        return str(orjson.loads(body)["to"])
    except (ValueError, TypeError, LookupError):
        return ""


def count_waiting(cursor: sqlite3.Cursor) -> int:
    """How many messages are stored."""
    (found,) = cursor.execute("SELECT count(*) FROM messages").fetchone()
    return int(found)


def _time(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
