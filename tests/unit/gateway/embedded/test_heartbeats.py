"""Heartbeats in the file, besides what the contract of the bus asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.heartbeats import EmbeddedHeartbeats
from gateway.embedded.schema import now_ms
from pipeline.ports import (
    BrokerRefused,
)
from tests.support.embedded import (
    PATIENT_SECONDS,
    insert,
    until,
    usable_database,
)


async def test_a_heartbeat_sent_before_is_not_heard(path: Path) -> None:
    """A bus carries what is sent while one listens, as a broker's fanout does."""
    database = Database(path)
    bus = EmbeddedHeartbeats(database, poll_seconds=0.02)
    heard: list[bytes] = []
    await database.start()
    await database.run(insert(0), PATIENT_SECONDS)
    await asyncio.sleep(0.01)
    bus.listen(heard.append)
    await bus.start()
    await bus.send(b"1")
    await until(lambda: heard)
    assert heard == [b"1"]
    await bus.close()
    await database.close()


async def test_a_heartbeat_of_a_clock_that_was_ahead_is_not_heard(path: Path) -> None:
    """It was sent before as well, however late it says it is."""
    database = Database(path)
    bus = EmbeddedHeartbeats(database, poll_seconds=0.02)
    heard: list[bytes] = []
    await database.start()
    await usable_database(database)
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENT_SECONDS)) as connection, connection:
        ahead_ms = now_ms() + 60_000
        connection.execute("INSERT INTO heartbeats (body, sent_at) VALUES (x'00', ?)", (ahead_ms,))
    bus.listen(heard.append)
    await bus.start()
    await bus.send(b"1")
    await until(lambda: heard)
    assert heard == [b"1"]
    await bus.close()
    await database.close()


async def test_a_new_file_is_no_reason_to_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who listens first waits until the file has its tables."""
    buses = [EmbeddedHeartbeats(Database(tmp_path / f"{number}.db")) for number in range(10)]
    for bus in buses:
        bus.listen(lambda heartbeat: None)
        await bus.start()
    await asyncio.sleep(0.5)
    for bus in buses:
        await bus.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_heartbeats_are_heard_again_in_a_new_file(path: Path) -> None:
    bus = EmbeddedHeartbeats(Database(path), poll_seconds=0.02)
    heard: list[bytes] = []
    bus.listen(heard.append)
    await bus.start()
    for number in range(3):
        await bus.send(b"%d" % number)
    await until(lambda: len(heard) == 3)
    for file in path.parent.iterdir():
        file.unlink()
    with contextlib.suppress(BrokerRefused):
        await bus.send(b"lost")
    await bus.send(b"new")
    await until(lambda: b"new" in heard)
    await bus.close()
