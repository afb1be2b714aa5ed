"""The file as the adapters see it: operations that are awaited until they are on the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gateway.dependency import ConnectionWatcher
from gateway.embedded import schema
from gateway.embedded.connection import Reader, open_for_writing
from gateway.embedded.failures import MaybeDone, NotDone, NotOurs, explain
from gateway.embedded.jobs import Job, Jobs, Operation
from gateway.embedded.writer import Writer

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
# Shorter than what a readiness report may take, so that it can give our reason.
_PING_SECONDS = 0.5


class Database:
    """The SQLite file at ``path``, shared by the adapters of a process and by the processes of a machine.

    Made before the event loop runs; opened by ``start``, and opened again by itself whenever it has failed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._watchers: list[ConnectionWatcher] = []
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs = Jobs()
        self._writer: Writer | None = None
        self._reader = Reader(self.path)

    @property
    def commits(self) -> int:
        """Transactions committed since it was opened."""
        return self._writer.commits if self._writer else 0

    @property
    def operations(self) -> int:
        """Operations in them."""
        return self._writer.operations if self._writer else 0

    def watch(self, watcher: ConnectionWatcher) -> None:
        """Tell ``watcher``, on the event loop, when the file becomes usable and when it ceases to be."""
        self._watchers.append(watcher)

    def prepare(self) -> None:
        """Create or upgrade the file now. Raises ``NotDone`` with the reason when it cannot be used."""
        try:
            connection, _ = open_for_writing(self.path)
            connection.close()
        except (sqlite3.Error, OSError, NotOurs) as error:
            raise NotDone(explain(self.path, error)) from error

    async def start(self) -> None:
        """Begin to open the file. Each user of the database calls it once, and ``close`` once."""
        self._users += 1
        if self._users == 1:
            self._loop = asyncio.get_running_loop()
            self._jobs.open()
            self._writer = Writer(self.path, self._jobs, self._tell, self._report, self._reader.close)
            self._writer.start()

    async def close(self) -> None:
        """When its last user closes it: finish what was accepted, within 5 s, and close the file."""
        self._users -= 1
        if self._users == 0 and self._writer is not None:
            self._jobs.close(_CLOSE_SECONDS)
            await asyncio.to_thread(self._writer.join)
            await asyncio.to_thread(self._reader.close)

    async def run(
        self, operation: Operation[T], seconds: float, *, withdraw: bool = True, makes_room: bool = False
    ) -> T:
        """Carry out ``operation``; return its result when it is committed to the disk.

        After so many seconds, and when the caller is cancelled, an operation that still waits is withdrawn; without
        ``withdraw`` it stays, to be done as soon as it can be. With ``makes_room``, which is for deletions, it succeeds
        on a full disk too. Raises ``NotDone``, ``MaybeDone``, or what ``operation`` raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = Job(operation, future, withdrawable=withdraw, makes_room=makes_room)
        self._jobs.put(job)
        timer = loop.call_later(seconds, self._expire, job, future, seconds)
        try:
            return await future
        except asyncio.CancelledError:
            self._jobs.withdraw(job)
            raise
        finally:
            timer.cancel()

    async def read(self, operation: Operation[T]) -> T:
        """What ``operation`` makes of what is committed; waits for no writer. Raises ``NotDone``."""
        try:
            return await asyncio.to_thread(self._reader.read, operation)
        except (sqlite3.Error, OSError, NotOurs) as error:
            raise NotDone(explain(self.path, error)) from error

    async def ping(self) -> None:
        """Return when the file has just been written to. Raises ``DatabaseError`` with the reason otherwise."""
        await self.run(schema.touch, _PING_SECONDS)

    def _expire(self, job: Job, future: asyncio.Future[Any], seconds: float) -> None:
        if future.done():
            return
        waited = f"{self.path}: not written within {seconds:g} s"
        if self._jobs.withdraw(job):
            future.set_exception(NotDone(f"{waited}: the disk is slow, or another process keeps it locked"))
        else:
            future.set_exception(MaybeDone(waited))

    # From the writing thread.

    def _tell(self, jobs: list[Job]) -> None:
        self._call(_resolve, jobs)

    def _report(self, is_up: bool) -> None:
        for watcher in self._watchers:
            self._call(watcher, is_up)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None
        # The loop may be gone, when nobody has closed the database.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        job.resolve()
