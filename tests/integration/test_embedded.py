"""The embedded file under real processes, real locks and real failures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop

from gateway.embedded import schema
from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.failures import MaybeDone, NotDone
from gateway.embedded.filelock import FileLock
from gateway.embedded.heartbeats import EmbeddedHeartbeats
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client
from pipeline.ports import (
    Begun,
    BrokerRefused,
    BrokerUnknown,
    ClaimLost,
    QuotaExceeded,
    Replay,
    StoreUnavailable,
)
from tests.contract.outboxes import envelope, usable

ROOT = Path(__file__).parents[2]
PATIENT_SECONDS = 30.0
TODAY = datetime.now(UTC).date()


def worker(job: str, path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A process of ``tests.support.embedded_worker``."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.embedded_worker", job, str(path), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(processes: list[subprocess.Popen[str]]) -> list[str]:
    """The lines that processes print until they end, all well."""
    lines = [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return lines


@contextlib.contextmanager
def locked(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the write lock, until it is killed."""
    with worker("lock", path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        try:
            yield holder
        finally:
            holder.kill()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What a query finds in the file."""
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENT_SECONDS)) as connection:
        return connection.execute(query).fetchall()


def stored(path: Path) -> list[object]:
    """The tracking_ids of what waits, in order."""
    return [row[0] for row in rows(path, "SELECT tracking_id FROM messages ORDER BY position")]


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def insert(number: int) -> Callable[[sqlite3.Cursor], None]:
    """An operation that leaves a trace."""

    def operation(cursor: sqlite3.Cursor) -> None:
        cursor.execute("INSERT INTO heartbeats (body, sent_at) VALUES (?, ?)", (number, schema.now_ms()))

    return operation


def inserted(path: Path) -> list[object]:
    """The traces of ``insert``, in order."""
    return [row[0] for row in rows(path, "SELECT body FROM heartbeats ORDER BY id")]


class Gate:
    """An operation that keeps the writing thread busy until it is opened, so that what comes meanwhile must wait."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, cursor: sqlite3.Cursor) -> None:
        self.entered.set()
        assert self._open.wait(PATIENT_SECONDS)

    def open(self) -> None:
        self._open.set()


@contextlib.asynccontextmanager
async def gated(database: Database) -> AsyncIterator[Gate]:
    """The writing thread is busy until the gate is opened, or the block ends."""
    gate = Gate()
    passing = asyncio.create_task(database.run(gate, PATIENT_SECONDS))
    await until(gate.entered.is_set)
    try:
        yield gate
    finally:
        gate.open()
        await passing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """An open one."""
    database = Database(path)
    await database.start()
    await usable_database(database)
    yield database
    await database.close()


async def usable_database(database: Database) -> None:
    """Wait until it can be written to."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while True:
            with contextlib.suppress(NotDone, MaybeDone):
                return await database.ping()
            await asyncio.sleep(0.02)


# Grouping, and what becomes of an operation.


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


# Its life.


async def test_the_file_is_created_for_its_owner_only(tmp_path: Path) -> None:
    """With the directories that it needs; what SQLite and we put beside it is as private."""
    path = tmp_path / "var" / "lib" / "gateway.db"
    database = Database(path)
    await database.start()
    await usable_database(database)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await database.close()
    assert modes == dict.fromkeys(
        ("gateway.db", "gateway.db-shm", "gateway.db-turn", "gateway.db-wal"), 0o600
    )


async def test_what_is_promised_of_a_commit_is_asked_of_sqlite(database: Database) -> None:
    """A write-ahead log, flushed to the disk at every commit."""

    def ask(cursor: sqlite3.Cursor) -> list[object]:
        pragmas = ("journal_mode", "synchronous", "fullfsync")
        return [cursor.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]

    assert await database.run(ask, PATIENT_SECONDS) == ["wal", 2, 1]


async def test_several_processes_create_one_file(path: Path) -> None:
    at = time.time() + 1.5
    assert told([worker("prepare", path, at) for _ in range(4)]) == ["prepared"] * 4
    Database(path).prepare()


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
                connection.execute("INSERT INTO heartbeats (body, sent_at) VALUES (x'00', ?)", (expires_at,))
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


async def test_an_expired_claim_is_free_before_it_is_deleted(path: Path) -> None:
    """Nobody waits for the broom: an expired answer is not replayed, and an expired token holds nothing."""
    store = EmbeddedStore(Database(path), idempotency_ttl_seconds=0, call_seconds=PATIENT_SECONDS)
    await store.start()
    claims = [Claim.on(Client("acme"), "key", hashlib.sha256(payload).digest()) for payload in (b"1", b"2")]
    for claim in claims:
        assert await store.begin(claim) == Begun()
        with pytest.raises(ClaimLost):
            await store.arm(claim)
    await store.close()


# Files that are not ours to touch.


@pytest.fixture
def newer(path: Path) -> Iterator[Path]:
    """A newer release's file, which must be left as it is."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before


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


def test_a_file_that_a_newer_release_took_over_keeps_its_version(path: Path) -> None:
    """A process of this release that still runs then does not take it back."""
    Database(path).prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        schema.touch(connection.cursor())
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION + 1,)


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


# Several processes.


def test_every_message_of_several_processes_is_stored_once(path: Path) -> None:
    lines = told([worker("publish", path, name, 300) for name in "abcd"])
    assert len(lines) == 1200
    assert sorted(map(str, stored(path))) == sorted(lines)


def test_a_claim_is_begun_by_one_of_several_processes(path: Path) -> None:
    lines = told([worker("begin", path, 200) for _ in range(4)])
    assert sorted(lines) == sorted(f"key-{number}" for number in range(200))


def test_quota_is_exact_across_processes(path: Path) -> None:
    """Whatever four processes take, and give back twice: what is counted is what they kept."""
    kept = told([worker("take", path, name, 10_000, 90, 30) for name in "abcd"])
    assert len(kept) == 240
    assert rows(path, "SELECT used FROM quotas") == [(240,)]


def test_of_more_takes_than_are_left_exactly_those_left_succeed(path: Path) -> None:
    assert len(told([worker("take", path, name, 99, 170, 0) for name in "abc"])) == 99
    assert rows(path, "SELECT used FROM quotas") == [(99,)]


async def test_nobody_starves_while_another_process_writes_without_a_pause(path: Path) -> None:
    """Each step on the store gets its turn in time."""
    store = EmbeddedStore(Database(path), call_seconds=3)
    with worker("publish", path, "busy", 100_000_000) as busy:
        await until(lambda: path.exists() and stored_some(path))
        await store.start()
        await usable(store)
        for number in range(50):
            found = await store.begin(Claim.on(Client("acme"), f"key-{number}", b"x" * 32))
            assert found == Begun()
        busy.kill()
    await store.close()


async def test_whose_turn_it_is_writes_first_but_not_for_ever(database: Database, path: Path) -> None:
    """A process that waits for the lock keeps others from taking it; one that is stopped then, only for 50 ms."""
    turn = FileLock(path.with_name(path.name + "-turn"))
    assert turn.take()
    started = time.monotonic()
    await database.run(insert(0), PATIENT_SECONDS)
    assert time.monotonic() - started >= 0.05
    turn.close()
    assert inserted(path) == [0]


def stored_some(path: Path) -> bool:
    """Whether there are the tables, and messages in them."""
    try:
        return bool(stored(path))
    except sqlite3.OperationalError:
        return False


@pytest.mark.parametrize("after", [50, 400, 1500])
def test_what_a_killed_process_reported_as_stored_is_stored(path: Path, after: int) -> None:
    """SIGKILL in the middle of heavy publishing: nothing that it was told is missing, and the file is whole."""
    with worker("publish", path, "killed", 1_000_000) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines += process.stdout.readlines()
    reported = {line.strip() for line in lines if line.endswith("\n")}
    found = list(map(str, stored(path)))
    assert len(found) == len(set(found))
    assert reported <= set(found)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    Database(path).prepare()


async def test_a_stopped_process_keeps_others_waiting_no_longer_than_it_is_stopped(path: Path) -> None:
    """SIGSTOP wherever it hits, lock or turn held or not: others are served or refused, and after SIGCONT served."""
    outbox = EmbeddedOutbox(Database(path), confirm_seconds=0.3)
    await outbox.start()
    mine: dict[str, set[str]] = {"stored": set(), "refused": set(), "unknown": set()}

    async def publish(number: int) -> str:
        one, outcome = envelope(tracking_id=f"mine-{number}"), "stored"
        try:
            await outbox.publish(one)
        except BrokerRefused:
            outcome = "refused"
        except BrokerUnknown:
            outcome = "unknown"
        mine[outcome].add(one.tracking_id)
        return outcome

    with worker("publish", path, "paused", 100_000_000) as process:
        await until(lambda: path.exists() and stored_some(path))
        for number in range(10):
            process.send_signal(signal.SIGSTOP)
            await publish(2 * number)
            process.send_signal(signal.SIGCONT)
            await until(lambda: stored_some(path))
        process.kill()
    patient = EmbeddedOutbox(outbox.database, confirm_seconds=PATIENT_SECONDS)
    await patient.publish(envelope())
    await outbox.close()
    found = set(map(str, stored(path)))
    assert mine["stored"] <= found
    assert not mine["refused"] & found


# Trouble.


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


async def test_an_answer_that_could_not_be_stored_in_time_is_stored_late(path: Path) -> None:
    database = Database(path)
    store, hasty = (EmbeddedStore(database, call_seconds=seconds) for seconds in (PATIENT_SECONDS, 0.1))
    await store.start()
    await usable(store)
    claim, retry = (Claim.on(Client("acme"), "key", b"x" * 32) for _ in range(2))
    await store.begin(claim)
    with locked(path), pytest.raises(StoreUnavailable):
        await hasty.complete(claim, accepted(claim.tracking_id))
    await usable(store)
    assert await store.begin(retry) == Replay(accepted(claim.tracking_id))
    await store.close()


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
    await outbox.remove([message.position for message in await outbox.waiting()])
    await outbox.publish(envelope())
    await database.run(allow(1_000_000), PATIENT_SECONDS)
    await asyncio.gather(*map(outbox.publish, sent))
    assert seen[-1]
    assert {one.tracking_id for one in sent} <= set(stored(path))
    await outbox.close()
    await store.close()


def test_a_failing_disk_is_never_called_stored(path: Path) -> None:
    """Writes fail for a while in mid-work: what is called stored is there, what is called refused is not."""
    outcomes = [line.split() for line in told([worker("fail", path)])]
    by_outcome = {
        kind: {tracking_id for outcome, tracking_id in outcomes if outcome == kind}
        for kind in ("stored", "refused", "unknown")
    }
    found = set(map(str, stored(path)))
    # What failed while it was being written may come back when the file is recovered.
    assert by_outcome["unknown"]
    assert by_outcome["stored"] <= found
    assert not by_outcome["refused"] & found
    assert outcomes[-1][0] == "stored"


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


# Reading.


async def test_the_outbox_is_read_in_order_and_in_portions(path: Path) -> None:
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    sent = [envelope() for _ in range(10)]
    for one in sent:
        await outbox.publish(one)
    first = await outbox.waiting(limit=4)
    rest = await outbox.waiting(after=first[-1].position, limit=100)
    assert [message.tracking_id for message in [*first, *rest]] == [one.tracking_id for one in sent]
    assert [message.body for message in first] == [one.to_json() for one in sent[:4]]
    for message, one in zip(first, sent, strict=False):
        assert timedelta() <= one.created_at - message.created_at < timedelta(milliseconds=1)
        assert message.expires_at - message.created_at == timedelta(hours=1)
    await outbox.remove([message.position for message in first])
    assert await outbox.count() == 6
    await outbox.remove([])
    assert await outbox.waiting(limit=100) == rest
    await outbox.close()


async def test_a_position_is_never_used_again(path: Path) -> None:
    """Whoever goes on after the last one that it saw misses nothing, even when all were removed in between."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await outbox.publish(envelope())
    [first] = await outbox.waiting()
    await outbox.remove([first.position])
    await outbox.publish(envelope())
    [second] = await outbox.waiting()
    assert second.position > first.position
    await outbox.close()


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


def test_reading_creates_nothing(path: Path) -> None:
    """Not even a file, and not a table in somebody else's."""
    with pytest.raises(OSError, match="not there"):
        Reader(path).read(lambda cursor: None)
    assert not path.exists()


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


# What the contract suite does not ask.


async def test_a_message_that_still_waits_stays_as_it_was(path: Path) -> None:
    """Publishing its tracking_id again changes neither its body nor its place."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    first, second = envelope("first"), envelope("second")
    await outbox.publish(first)
    await outbox.publish(second)
    await outbox.publish(envelope("other words", first.tracking_id))
    assert [message.body for message in await outbox.waiting()] == [first.to_json(), second.to_json()]
    await outbox.close()


async def test_over_the_limit_nothing_is_written(path: Path) -> None:
    """Who knocks at an empty quota costs no disk."""
    database = Database(path)
    store = EmbeddedStore(database, call_seconds=PATIENT_SECONDS)
    await store.start()
    await usable(store)
    assert database._writer is not None
    database._writer._housekeeping_at = time.monotonic() + 3600  # It writes.
    wal = path.with_name(path.name + "-wal")
    before = wal.stat().st_size
    for number in range(20):
        token = f"token-{number}"
        taken = await store.take(Client("acme", daily_quota=0), TODAY, token, None)
        assert taken == QuotaExceeded(0)
    claim = Claim.on(Client("acme"), "key", b"x" * 32)
    assert wal.stat().st_size == before
    await store.begin(claim)
    await store.complete(claim, Answer(422, b"{}"))
    before = wal.stat().st_size
    for _ in range(20):
        retry = Claim.on(Client("acme"), "key", b"x" * 32)
        assert await store.begin(retry) == Replay(Answer(422, b"{}"))
    assert wal.stat().st_size == before
    await store.close()
