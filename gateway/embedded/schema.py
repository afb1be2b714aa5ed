"""The tables of the file, how they came to be, and which of their rows are old."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta

from gateway.embedded.failures import NotOurs

APPLICATION_ID = 0x534D5347  # "SMSG": tells our file from any other SQLite file.

# The statements that lead from each version to the next. What was released is never changed, only added to.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # One for each client and Idempotency-Key. `answer` is null while pending; `charged_on` is the UTC day whose
        # quota was charged. All times are milliseconds since 1970.
        """CREATE TABLE claims (
            client TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint BLOB NOT NULL,
            token TEXT,
            leased_until INTEGER NOT NULL,
            armed INTEGER NOT NULL,
            charged_on TEXT,
            answer BLOB,
            expires_at INTEGER NOT NULL,
            PRIMARY KEY (client, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX claims_by_age ON claims (expires_at)",
        # Messages used of each UTC day.
        """CREATE TABLE quotas (
            day TEXT NOT NULL,
            client TEXT NOT NULL,
            used INTEGER NOT NULL,
            PRIMARY KEY (day, client)
        ) WITHOUT ROWID""",
        # What was taken without a claim; `taken` is 0 once it was given back.
        """CREATE TABLE reservations (
            token TEXT NOT NULL,
            client TEXT NOT NULL,
            taken INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            PRIMARY KEY (token, client)
        ) WITHOUT ROWID""",
        "CREATE INDEX reservations_by_age ON reservations (expires_at)",
        # The outbox. AUTOINCREMENT, so that a position is never used again and a reader can go on after the last one.
        """CREATE TABLE messages (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            tracking_id TEXT NOT NULL UNIQUE,
            body BLOB NOT NULL,
            created_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL
        )""",
        """CREATE TABLE heartbeats (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            body BLOB NOT NULL,
            sent_at INTEGER NOT NULL
        )""",
    ),
)

VERSION = len(_MIGRATIONS)

# Columns and tables that came later and that earlier releases need not know of: with them they read and write the file
# as before. Each with a column by which it is known.
_ADDITIONS: tuple[tuple[str, str, str], ...] = (
    # When the message was being stored: what was created before that did not wait for its answer.
    ("messages", "stored_at", "ALTER TABLE messages ADD COLUMN stored_at INTEGER"),
    # How many bytes of refusals are kept of each client, in the last period in which there were any.
    (
        "refusals",
        "bytes",
        """CREATE TABLE refusals (
            client TEXT NOT NULL PRIMARY KEY,
            period INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) WITHOUT ROWID""",
    ),
)

RESERVATION_SECONDS = 600
"""How long a reservation without a claim can still be given back: far longer than any request lives."""

_HEARTBEAT_SECONDS = 600
_QUOTA_DAYS = 3
_PORTION = 200


def is_current(cursor: sqlite3.Cursor) -> bool:
    """Whether the file has today's tables. Raises ``NotOurs`` for a newer version's and for another program's file."""
    # In one statement, and so of one moment: another process may be creating the tables.
    version, application, tables = cursor.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID:
        if tables or version or application:
            raise NotOurs("the file belongs to another program: name another path")
        return False
    if version > VERSION:
        raise NotOurs(
            f"the file was written by a newer release (schema {version}, this one knows {VERSION}):"
            " run that release, or name another path"
        )
    return bool(version == VERSION)


def upgrade(cursor: sqlite3.Cursor) -> None:
    """Bring the file to today's tables, in one transaction: of several processes the first does it."""
    if is_current(cursor) and not _missing(cursor):
        return
    cursor.execute("BEGIN IMMEDIATE")
    try:
        if not is_current(cursor):
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            cursor.execute(f"PRAGMA user_version = {VERSION}")
        for _, _, statement in _missing(cursor):
            cursor.execute(statement)
        cursor.execute("COMMIT")
    except BaseException:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise


def _missing(cursor: sqlite3.Cursor) -> list[tuple[str, str, str]]:
    """The additions that the file does not have yet."""
    has = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
    return [addition for addition in _ADDITIONS if cursor.execute(has, addition[:2]).fetchone() is None]


def now_ms() -> int:
    """The time of this machine, in milliseconds since 1970: the one clock that all its processes share."""
    return time.time_ns() // 1_000_000


def touch(cursor: sqlite3.Cursor) -> None:
    """Write to the file without changing what it says."""
    # As it was read: a newer release may have raised it since we opened the file.
    (version,) = cursor.execute("PRAGMA user_version").fetchone()
    cursor.execute(f"PRAGMA user_version = {version}")


_SWEEPS = (
    """DELETE FROM claims WHERE (client, key) IN
        (SELECT client, key FROM claims WHERE expires_at <= :now ORDER BY expires_at LIMIT :portion)""",
    """DELETE FROM reservations WHERE (token, client) IN
        (SELECT token, client FROM reservations WHERE expires_at <= :now ORDER BY expires_at LIMIT :portion)""",
    """DELETE FROM quotas WHERE (day, client) IN
        (SELECT day, client FROM quotas WHERE day < :oldest_day LIMIT :portion)""",
    # The oldest come first, so no index is needed. Of a clock that was ahead they say that they are new, for as long.
    """DELETE FROM heartbeats WHERE id IN
        (SELECT id FROM (SELECT id, sent_at FROM heartbeats ORDER BY id LIMIT :portion)
            WHERE sent_at NOT BETWEEN :now - :heard_ms AND :now + :heard_ms)""",
)


def sweep(cursor: sqlite3.Cursor) -> bool:
    """Delete a small portion of the old rows of each table; True when there may be more."""
    now = now_ms()
    bounds = {
        "now": now,
        "oldest_day": (datetime.now(UTC).date() - timedelta(days=_QUOTA_DAYS)).isoformat(),
        "heard_ms": _HEARTBEAT_SECONDS * 1000,
        "portion": _PORTION,
    }
    deleted = [cursor.execute(statement, bounds).rowcount for statement in _SWEEPS]
    return max(deleted) >= _PORTION
