"""An embedded file under test: what is in it, who else uses it, and a writing thread that is kept busy."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from gateway.embedded import schema
from gateway.embedded.database import Database
from gateway.embedded.failures import MaybeDone, NotDone

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


async def usable_database(database: Database) -> None:
    """Wait until it can be written to."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while True:
            with contextlib.suppress(NotDone, MaybeDone):
                return await database.ping()
            await asyncio.sleep(0.02)


def stored_some(path: Path) -> bool:
    """Whether there are the tables, and messages in them."""
    try:
        return bool(stored(path))
    except sqlite3.OperationalError:
        return False
