"""How the file is opened, for writing and for reading."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox
from tests.contract.outboxes import envelope
from tests.support.embedded import (
    PATIENT_SECONDS,
    usable_database,
)


async def test_the_file_is_created_for_its_owner_only(tmp_path: Path) -> None:
    """With the directories that it needs; what SQLite and we put beside it is as private."""
    path = tmp_path / "var" / "lib" / "gateway.db"
    database = Database(path)
    await database.start()
    await usable_database(database)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await database.close()
    assert modes == dict.fromkeys(
        ("gateway.db", "gateway.db-reserve", "gateway.db-shm", "gateway.db-turn", "gateway.db-wal"), 0o600
    )


def test_the_name_of_its_folder_is_synced_whoever_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the top of its disk: else a power cut may take the folder with everything that is in it."""
    synced = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(os.fstat(file).st_ino))
    for _ in range(2):
        Database(tmp_path / "new" / "folder" / "gateway.db").prepare()
        assert synced[:2] == [(tmp_path / "new").stat().st_ino, tmp_path.stat().st_ino]
        synced.clear()


async def test_what_is_promised_of_a_commit_is_asked_of_sqlite(database: Database) -> None:
    """A write-ahead log, flushed to the disk at every commit."""

    def ask(cursor: sqlite3.Cursor) -> list[object]:
        pragmas = ("journal_mode", "synchronous", "fullfsync")
        return [cursor.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]

    assert await database.run(ask, PATIENT_SECONDS) == ["wal", 2, 1]


def test_reading_creates_nothing(path: Path) -> None:
    """Not even a file, and not a table in somebody else's."""
    with pytest.raises(OSError, match="not there"):
        Reader(path).read(lambda cursor: None)
    assert not path.exists()


async def test_a_reader_and_a_writer_do_not_wait_for_each_other(path: Path) -> None:
    """A reader in the middle of a long look sees one moment, and writing goes on."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await outbox.publish(envelope())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as looking:
        looking.execute("BEGIN")
        assert looking.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        await asyncio.gather(*(outbox.publish(envelope()) for _ in range(20)))
        assert looking.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        looking.execute("COMMIT")
    assert await outbox.count() == 21
    await outbox.close()


async def test_a_reader_waits_for_who_is_just_opening_or_closing_the_file(path: Path) -> None:
    """Two that read by turns, such as two of ``sms-gateway messages``, are told of no file that was taken away."""
    database = Database(path)
    await database.start()
    await usable_database(database)
    index = path.with_name(f"{path.name}-shm")
    aside = index.rename(f"{index}-aside")
    coming = threading.Timer(0.05, aside.rename, (index,))
    coming.start()
    reader = Reader(path)
    try:
        assert await asyncio.to_thread(reader.read, lambda cursor: cursor.execute("SELECT 1").fetchone()) == (
            1,
        )
    finally:
        coming.join()
        reader.close()
        await database.close()
