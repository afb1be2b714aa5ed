"""The writing thread: its commits, its turn among processes, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.failures import FileGone, MaybeDone, NotDone
from gateway.embedded.filelock import FileLock
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.facts import Claim, Client
from pipeline.ports import (
    Begun,
    BrokerRefused,
    StoreUnavailable,
)
from tests.contract.outboxes import envelope, usable
from tests.support.embedded import (
    PATIENT_SECONDS,
    insert,
    inserted,
    locked,
    rows,
    stored,
    usable_database,
)


async def test_concurrent_publishes_share_commits(path: Path) -> None:
    """Without any help of the test's, 64 senders need far fewer commits than messages."""
    database = Database(path)
    outbox = EmbeddedOutbox(database)
    await outbox.start()
    await usable(outbox)
    before = database.commits
    sent = [envelope() for _ in range(640)]
    messages = iter(sent)

    async def sender() -> None:
        for one in messages:
            await outbox.publish(one)

    await asyncio.gather(*(sender() for _ in range(64)))
    assert database.commits - before < 320
    assert sorted(map(str, stored(path))) == sorted(one.tracking_id for one in sent)
    await outbox.close()


async def test_whose_turn_it_is_writes_first_but_not_for_ever(database: Database, path: Path) -> None:
    """A process that waits for the lock keeps others from taking it; one that is stopped then, only for 50 ms."""
    turn = FileLock(path.with_name(path.name + "-turn"))
    assert turn.take()
    started = time.monotonic()
    await database.run(insert(0), PATIENT_SECONDS)
    assert time.monotonic() - started >= 0.05
    turn.close()
    assert inserted(path) == [0]


async def test_a_lock_that_another_process_keeps_is_refused_and_healed(path: Path) -> None:
    """Within the bounds of each call; health says why; and when the lock is gone, even by kill -9, all is well."""
    seen: list[bool] = []
    database = Database(path)
    store = EmbeddedStore(database, call_seconds=2)
    outbox = EmbeddedOutbox(database, confirm_seconds=0.3, on_connection=seen.append)
    await store.start()
    await outbox.start()
    await usable(outbox)
    claim = Claim.on(Client("acme"), "key", b"x" * 32)
    with locked(path):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.begin(claim)
        with pytest.raises(BrokerRefused, match="another process keeps it locked"):
            await outbox.publish(envelope())
        with pytest.raises(NotDone, match="another process keeps it locked"):
            await outbox.ping()
        assert time.monotonic() - started < 10
        with contextlib.suppress(NotDone):
            await database.run(insert(0), 2)
        assert seen == [True, False]
        assert await outbox.count() == 0  # Reading waits for no writer.
    await usable(outbox)
    assert seen == [True, False, True]
    assert await store.begin(claim) == Begun()
    patient = EmbeddedOutbox(database, confirm_seconds=PATIENT_SECONDS)
    await patient.publish(envelope())
    await store.close()
    await outbox.close()


async def test_a_full_disk_is_refused_and_healed(path: Path) -> None:
    """Nothing that was refused is stored; what needs no room still works; and with room, all is well again."""
    seen: list[bool] = []
    database = Database(path)
    outbox = EmbeddedOutbox(database, on_connection=seen.append)
    store = EmbeddedStore(database)
    await outbox.start()
    await store.start()
    await usable(outbox)

    def allow(pages: int) -> Callable[[sqlite3.Cursor], object]:
        return lambda cursor: cursor.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    await database.run(allow(40), PATIENT_SECONDS)
    sent = [envelope("x" * 1600) for _ in range(100)]
    ends = await asyncio.gather(*map(outbox.publish, sent), return_exceptions=True)
    refused = [one.tracking_id for one, end in zip(sent, ends, strict=True) if end is not None]
    assert refused
    assert {type(end) for end in ends} == {type(None), BrokerRefused}
    assert next(str(end) for end in ends if end is not None).endswith(
        "there is no room: free some space on the disk (SQLITE_FULL)"
    )
    assert set(stored(path)) == {one.tracking_id for one in sent} - set(refused)
    assert False in seen
    await outbox.remove({message.position: message.tracking_id for message in await outbox.waiting()})
    await outbox.publish(envelope())
    await database.run(allow(1_000_000), PATIENT_SECONDS)
    await asyncio.gather(*map(outbox.publish, sent))
    assert seen[-1]
    assert {one.tracking_id for one in sent} <= set(stored(path))
    await outbox.close()
    await store.close()


@pytest.mark.parametrize("how", ["removed", "replaced", "its directory removed"])
async def test_a_file_that_is_gone_is_noticed_and_made_anew(tmp_path: Path, how: str) -> None:
    """Nothing is stored into a file that nobody will find, and the process goes on with a new one."""
    path = tmp_path / "var" / "gateway.db"
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await usable(outbox)
    await outbox.publish(envelope())
    for file in path.parent.iterdir():
        file.unlink()
    if how == "its directory removed":
        path.parent.rmdir()
    if how == "replaced":
        Database(path).prepare()
    lost = envelope()
    with pytest.raises(BrokerRefused, match="the file"):
        await outbox.publish(lost)
    await usable(outbox)
    later = envelope()
    await outbox.publish(later)
    assert stored(path) == [later.tracking_id]
    assert [message.tracking_id for message in await outbox.waiting()] == [later.tracking_id]
    await outbox.close()


async def test_what_was_stored_goes_with_a_file_that_is_moved_away(path: Path) -> None:
    """Also what only its log held, which stays behind, and is removed when a new file is made."""
    first, second = (EmbeddedOutbox(Database(path)) for _ in range(2))
    sent = [envelope() for _ in range(4)]
    for outbox, one in zip((first, second), sent, strict=False):
        await outbox.start()
        await usable(outbox)
        await outbox.publish(one)
        assert await outbox.count()
    away = path.with_name("away.db")
    os.rename(path, away)  # noqa: PTH104 - where an event loop runs, either is the same
    for outbox, one in zip((first, second), sent[2:], strict=True):
        with pytest.raises(BrokerRefused):
            await outbox.publish(envelope())
        await usable(outbox)
        await outbox.publish(one)
    assert stored(away) == [one.tracking_id for one in sent[:2]]
    assert stored(path) == [one.tracking_id for one in sent[2:]]
    for outbox in (first, second):
        await outbox.close()


@pytest.mark.parametrize("names", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids=" and ".join)
@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_what_belongs_to_the_file_and_is_gone_is_noticed_before_the_next_commit(
    path: Path, names: list[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was stored is lost, nothing is stored where nobody will find it, and it goes on by itself."""
    monkeypatch.setattr("gateway.embedded.writer._HOUSEKEEPING_SECONDS", 1000)
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await usable(outbox)
    before = [envelope() for _ in range(20)]
    await asyncio.gather(*map(outbox.publish, before))
    assert await outbox.count() == 20
    for name in names:
        beside = path.with_name(path.name + name)
        beside.unlink()
        if how == "replaced":
            beside.touch()
    with pytest.raises(
        BrokerRefused, match=f"gateway.db{names[0]} was removed or replaced while it was in use"
    ):
        await outbox.publish(envelope())
    await usable(outbox)
    later = envelope()
    await outbox.publish(later)
    everything = [one.tracking_id for one in [*before, later]]
    assert [message.tracking_id for message in await outbox.waiting()] == everything
    assert stored(path) == everything
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    await outbox.close()


@pytest.mark.parametrize("name", ["-wal", "-shm"])
async def test_a_file_is_not_opened_anew_while_another_process_works_with_what_is_gone(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two would write to different logs, each in the belief that it is alone. Nothing of either is lost."""
    monkeypatch.setattr("gateway.embedded.writer._HOUSEKEEPING_SECONDS", 1000)
    mine, other = (EmbeddedOutbox(Database(path)) for _ in range(2))
    sent = [envelope() for _ in range(4)]
    for outbox, one in zip((mine, other), sent, strict=False):
        await outbox.start()
        await usable(outbox)
        await outbox.publish(one)
    path.with_name(path.name + name).unlink()
    for _ in range(3):
        with pytest.raises(NotDone, match="it is opened anew as soon as everybody has let go of it"):
            await mine.ping()
    newcomer = Reader(path)
    with pytest.raises(FileGone, match=f"{name} was removed"):
        newcomer.read(lambda cursor: None)
    with pytest.raises(BrokerRefused, match="was removed or replaced"):
        await other.publish(envelope())
    for outbox, one in zip((mine, other), sent[2:], strict=True):
        await usable(outbox)
        await outbox.publish(one)
    assert stored(path) == [one.tracking_id for one in sent]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    newcomer.close()
    await mine.close()
    await other.close()


async def test_a_file_that_goes_while_it_is_written_leaves_the_outcome_unknown(
    database: Database, path: Path
) -> None:
    def pull_away(cursor: sqlite3.Cursor) -> None:
        insert(0)(cursor)
        path.rename(path.with_suffix(".away"))

    with pytest.raises(MaybeDone):
        await database.run(pull_away, PATIENT_SECONDS)
    await usable_database(database)
    assert inserted(path) == []


async def test_a_bug_in_the_thread_does_not_end_it(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the thread nothing would ever be stored again."""
    with monkeypatch.context() as patched:
        patched.setattr("gateway.embedded.writer.identify", lambda path: 1 / 0)
        with pytest.raises(NotDone, match="division by zero"):
            await database.run(insert(0), PATIENT_SECONDS)
    await database.run(insert(1), PATIENT_SECONDS)
    assert inserted(path) == [1]
    assert any(record.exc_info for record in caplog.records)
