"""The tables of the file, over releases and over time."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

from gateway.embedded import schema
from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox, select_waiting
from tests.contract.outboxes import envelope, usable
from tests.support.embedded import (
    TODAY,
    rows,
    until,
)


async def test_old_rows_are_deleted_and_no_others(path: Path) -> None:
    """Expired claims and reservations, quotas of past days and old heartbeats go, however many; messages never do."""
    Database(path).prepare()
    old, new = 1, schema.now_ms() + 86_400_000
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for expires_at, count in ((old, 900), (new, 5)):
            for number in range(count):
                key = f"{expires_at}-{number}"
                connection.execute(
                    "INSERT INTO claims (client, key, fingerprint, leased_until, armed, expires_at)"
                    " VALUES ('acme', ?, x'00', 0, 0, ?)",
                    (key, expires_at),
                )
                connection.execute("INSERT INTO reservations VALUES (?, 'acme', 1, ?)", (key, expires_at))
                day = (TODAY if expires_at == new else TODAY - timedelta(days=10)).isoformat()
                connection.execute("INSERT INTO quotas VALUES (?, ?, 1)", (day, key))
                sent_at = min(expires_at, schema.now_ms())
                connection.execute("INSERT INTO heartbeats (body, sent_at) VALUES (x'00', ?)", (sent_at,))
                connection.execute(
                    "INSERT INTO messages (tracking_id, body, created_at, expires_at) VALUES (?, x'00', 0, 0)",
                    (key,),
                )
    tables = ("claims", "reservations", "quotas", "heartbeats", "messages")
    database = Database(path)
    await database.start()
    await until(
        lambda: (
            [rows(path, f"SELECT count(*) FROM {table}") for table in tables]  # noqa: S608 - names of ours
            == [[(5,)], [(5,)], [(5,)], [(5,)], [(905,)]]
        )
    )
    await database.close()


def test_a_file_that_a_newer_release_took_over_keeps_its_version(path: Path) -> None:
    """A process of this release that still runs then does not take it back."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        schema.touch(connection.cursor())
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION + 1,)


def earlier_release(path: Path) -> None:
    """A file as earlier releases wrote it: with a message that does not say when it was stored, and no refusals."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE messages DROP COLUMN stored_at")
        connection.execute("DROP TABLE refusals")
        connection.execute(
            "INSERT INTO messages (tracking_id, body, created_at, expires_at) VALUES ('old', x'00', 1, 2)"
        )


async def test_what_came_later_is_added_to_what_is_there(path: Path) -> None:
    """An earlier release, which runs beside this one, still takes the file for its own."""
    earlier_release(path)
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await usable(outbox)
    await outbox.publish(envelope())
    old, new = await outbox.waiting()
    assert (old.tracking_id, old.stored_at) == ("old", None)
    assert new.stored_at is not None
    assert rows(path, "PRAGMA user_version") == [(schema.VERSION,)]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO messages (tracking_id, body, created_at, expires_at) VALUES ('beside', x'00', 1, 2)"
        )
    assert [message.tracking_id for message in await outbox.waiting()] == ["old", new.tracking_id, "beside"]
    assert rows(path, "SELECT * FROM refusals") == []
    await outbox.close()


def test_a_file_of_an_earlier_release_is_read_before_it_has_the_column(path: Path) -> None:
    """``sms-gateway messages`` changes nothing and needs no gateway of this release."""
    earlier_release(path)
    reader = Reader(path)
    [found] = reader.read(lambda cursor: select_waiting(cursor, 0, 10))
    reader.close()
    assert (found.tracking_id, found.stored_at) == ("old", None)


def test_old_rows_go_in_portions(path: Path) -> None:
    """Nobody waits long for the broom; it says when there is more."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.cursor()
        for number in range(250):
            cursor.execute("INSERT INTO reservations VALUES (?, 'acme', 1, 1)", (str(number),))
        assert schema.sweep(cursor)
        assert cursor.execute("SELECT count(*) FROM reservations").fetchone() == (50,)
        assert not schema.sweep(cursor)
        assert cursor.execute("SELECT count(*) FROM reservations").fetchone() == (0,)


def test_heartbeats_of_a_clock_that_was_ahead_hold_no_others(path: Path) -> None:
    """Set back, it would keep them, and with them all that come after them, until it is as far again."""
    Database(path).prepare()
    now, year_ms = schema.now_ms(), 365 * 86_400_000
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.cursor()
        for sent_at in (*[now + year_ms] * 250, *[1] * 250, now - 1000, now + 1000):
            cursor.execute("INSERT INTO heartbeats (body, sent_at) VALUES (x'00', ?)", (sent_at,))
        while schema.sweep(cursor):
            pass
        assert cursor.execute("SELECT sent_at FROM heartbeats").fetchall() == [(now - 1000,), (now + 1000,)]


def test_a_clock_set_back_deletes_nothing_that_is_of_use(path: Path) -> None:
    """Neither answers nor counts: it may be the clock that is wrong, and go ahead again."""
    Database(path).prepare()
    ahead_ms, next_year = schema.now_ms() + 365 * 86_400_000, (TODAY + timedelta(days=365)).isoformat()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(
            "INSERT INTO claims (client, key, fingerprint, leased_until, armed, expires_at)"
            " VALUES ('acme', 'key', x'00', ?, 0, ?)",
            (ahead_ms, ahead_ms),
        )
        cursor.execute("INSERT INTO reservations VALUES ('token', 'acme', 1, ?)", (ahead_ms,))
        cursor.execute("INSERT INTO quotas VALUES (?, 'acme', 1)", (next_year,))
        assert not schema.sweep(cursor)
        for table in ("claims", "reservations", "quotas"):
            assert cursor.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,), table  # noqa: S608
