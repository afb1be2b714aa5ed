"""Operations on the file: what becomes of each, and the life of the file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from gateway.embedded import schema
from gateway.embedded.database import Database
from gateway.embedded.failures import MaybeDone, NotDone
from gateway.embedded.heartbeats import EmbeddedHeartbeats
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.ports import (
    BrokerRefused,
)
from tests.contract.outboxes import envelope, usable
from tests.support.embedded import (
    PATIENT_SECONDS,
    Gate,
    gated,
    insert,
    inserted,
    locked,
    stored,
    until,
)


@pytest.fixture
def newer(path: Path) -> Iterator[Path]:
    """A newer release's file, which must be left as it is."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before


async def test_what_waits_is_committed_together(database: Database, path: Path) -> None:
    """A hundred operations that wait for the thread share one commit, in the order in which they came."""
    async with gated(database) as gate:
        before = database.commits, database.operations
        waiting = [
            asyncio.create_task(database.run(insert(number), PATIENT_SECONDS)) for number in range(100)
        ]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*waiting)
    commits, operations = database.commits - before[0], database.operations - before[1]
    assert commits == 2  # the gate's own, and that of the hundred
    assert operations == 101
    assert inserted(path) == list(range(100))


@pytest.mark.parametrize(
    "failure",
    [ValueError("a bug"), sqlite3.IntegrityError("a bug in SQL"), sqlite3.OperationalError("no such table")],
)
async def test_one_failing_operation_does_not_harm_its_batch(
    database: Database, path: Path, failure: Exception
) -> None:
    """The others are committed, once each; nothing that the failing one did stays; it alone is told."""

    def fail(cursor: sqlite3.Cursor) -> None:
        insert(1000)(cursor)
        raise failure

    async with gated(database) as gate:
        operations = [insert(0), insert(1), fail, insert(2)]
        waiting = [asyncio.create_task(database.run(operation, PATIENT_SECONDS)) for operation in operations]
        await asyncio.sleep(0)
        gate.open()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [ends[0], ends[1], ends[3]] == [None, None, None]
    assert isinstance(ends[2], NotDone if isinstance(failure, sqlite3.Error) else ValueError)
    assert inserted(path) == [0, 1, 2]
    await database.ping()


async def test_an_operation_that_still_waits_is_withdrawn_and_never_done(
    database: Database, path: Path
) -> None:
    """After its time it is certainly not done, and will not be."""
    with locked(path):
        ends = await asyncio.gather(
            *(database.run(insert(number), 0.05) for number in range(20)), return_exceptions=True
        )
        assert [type(end) for end in ends] == [NotDone] * 20
        assert "another process keeps it locked" in str(ends[0])
    await database.run(insert(20), PATIENT_SECONDS)
    assert inserted(path) == [20]


async def test_an_operation_whose_caller_is_gone_is_withdrawn(database: Database, path: Path) -> None:
    with locked(path):
        task = asyncio.create_task(database.run(insert(0), PATIENT_SECONDS))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await database.run(insert(1), PATIENT_SECONDS)
    assert inserted(path) == [1]


async def test_an_operation_that_must_not_be_withdrawn_is_done_late(database: Database, path: Path) -> None:
    with locked(path), pytest.raises(MaybeDone):
        await database.run(insert(0), 0.05, withdraw=False)
    await until(lambda: inserted(path) == [0])


async def test_an_operation_that_was_taken_may_be_done(database: Database, path: Path) -> None:
    """Once the transaction is under way nobody can tell, and nobody claims to."""
    gate = Gate()

    def slow(cursor: sqlite3.Cursor) -> None:
        insert(0)(cursor)
        gate(cursor)

    with pytest.raises(MaybeDone):
        await database.run(slow, 0.05)
    gate.open()
    await until(lambda: inserted(path) == [0])


async def test_one_database_has_several_users(path: Path) -> None:
    """It is open from the first start to the last close, and may be opened again."""
    database = Database(path)
    store, outbox, bus = EmbeddedStore(database), EmbeddedOutbox(database), EmbeddedHeartbeats(database)
    for _ in range(2):
        for part in (store, outbox, bus):
            await part.start()
        await usable(outbox)
        await store.close()
        await outbox.publish(envelope())
        await outbox.close()
        await bus.send(b"{}")
        await bus.close()
        with pytest.raises(BrokerRefused):
            await bus.send(b"{}")
    assert len(stored(path)) == 2


async def test_closing_finishes_what_was_accepted(path: Path) -> None:
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    publishing = [asyncio.create_task(outbox.publish(envelope())) for _ in range(50)]
    await asyncio.sleep(0)
    await outbox.close()
    await asyncio.gather(*publishing)
    assert len(stored(path)) == 50


async def test_it_runs_on_uvloop_too(path: Path) -> None:
    """The loop that servers run on."""

    async def main() -> None:
        outbox = EmbeddedOutbox(Database(path))
        await outbox.start()
        await asyncio.gather(*(outbox.publish(envelope()) for _ in range(50)))
        await outbox.close()

    await asyncio.to_thread(uvloop.run, main())
    assert len(stored(path)) == 50


async def test_a_newer_release_s_file_is_refused(newer: Path) -> None:
    """Whoever opens it learns what to do."""
    with pytest.raises(NotDone, match="newer release"):
        Database(newer).prepare()
    outbox = EmbeddedOutbox(Database(newer))
    await outbox.start()
    with pytest.raises(NotDone, match="newer release"):
        await outbox.ping()
    with pytest.raises(BrokerRefused, match="newer release"):
        await outbox.publish(envelope())
    with pytest.raises(NotDone, match="newer release"):
        await outbox.count()
    await outbox.close()


@pytest.mark.parametrize("kind", ["another program's", "no database"])
def test_another_program_s_file_is_refused(path: Path, kind: str) -> None:
    if kind == "no database":
        path.write_bytes(b"To be, or not to be, that is the question. " * 100)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE accounts (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(NotDone, match="name another path"):
        Database(path).prepare()
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A directory that is a file, and a file that is a directory."""
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "gateway.db", tmp_path / "directory"):
        with pytest.raises(NotDone, match=str(path)):
            Database(path).prepare()
