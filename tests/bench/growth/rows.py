"""Files of the gateway with as many rows as one likes, and what working on them takes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.embedded import schema
from gateway.embedded.database import Database
from pipeline.answer import accepted
from tests.bench.growth.backlog import envelope
from tests.bench.growth.startup import folder
from tests.bench.growth.timing import percentile

_PORTION = 10_000
_MESSAGE = "INSERT INTO messages (tracking_id, body, created_at, expires_at) VALUES (?, ?, ?, ?)"
_CLAIM = (
    "INSERT INTO claims (client, key, fingerprint, leased_until, armed, answer, expires_at)"
    " VALUES ('shop0001', ?, ?, 0, 0, ?, ?)"
)


@contextmanager
def file() -> Iterator[Path]:
    """A new file with today's tables, gone afterwards."""
    with folder() as directory:
        path = directory / "gateway.db"
        Database(path).prepare()
        yield path


def add_messages(path: Path, count: int) -> None:
    """Messages that wait."""

    def rows() -> Iterator[tuple[object, ...]]:
        now = schema.now_ms()
        for _ in range(count):
            one = envelope()
            yield one.tracking_id, one.to_json(), now, now + one.message.ttl_seconds * 1000

    _insert(path, _MESSAGE, rows())


def add_claims(path: Path, count: int, *, expired: bool) -> None:
    """Claims of accepted messages, of the last day or of the day before."""

    def rows() -> Iterator[tuple[object, ...]]:
        expires_at = schema.now_ms() + (-1 if expired else 86_400_000)
        answer = accepted("0" * 36).pack("0" * 36)
        for _ in range(count):
            yield str(uuid.uuid4()), os.urandom(32), answer, expires_at

    _insert(path, _CLAIM, rows())


def _insert(path: Path, statement: str, rows: Iterator[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        while portion := list(islice(rows, _PORTION)):
            with connection:
                connection.executemany(statement, portion)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def count(path: Path, table: str) -> int:
    """How many rows a table has."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - not from outside
        return int(found)


def size_mib(path: Path) -> float:
    """The file with its journal."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) / 2**20


@dataclass(frozen=True)
class Steps:
    """Steps that were done one after the other, by so many at once."""

    seconds: list[float]
    elapsed: float
    cpu_seconds: float

    def milliseconds(self, percent: float) -> float:
        """A percentile of how long one took."""
        return percentile(self.seconds, percent) * 1e3

    @property
    def microseconds_each(self) -> float:
        """The time that passed, divided among all of them."""
        return self.elapsed / len(self.seconds) * 1e6

    @property
    def cpu_microseconds(self) -> float:
        """The processor time of one, which no disk makes longer."""
        return self.cpu_seconds / len(self.seconds) * 1e6


async def repeat(step: Callable[[], Awaitable[object]], at_once: int, seconds: float) -> Steps:
    """Do the step for so long, by so many at once."""
    taken: list[float] = []
    started, used = time.perf_counter(), time.process_time()

    async def work() -> None:
        while (begun := time.perf_counter()) < started + seconds:
            await step()
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return Steps(taken, time.perf_counter() - started, time.process_time() - used)
