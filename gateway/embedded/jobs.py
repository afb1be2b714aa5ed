"""What waits to be written: handed over by the event loop, taken by the writing thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.embedded.failures import NotDone

T = TypeVar("T")

Operation = Callable[[sqlite3.Cursor], T]
"""Part of a transaction. May be tried more than once before it is committed once, so it touches nothing else."""

_MOST_WAITING = 20_000


class Job:
    """An operation, who waits for it, and what became of it.

    ``withdrawable`` says that it is not wanted any more once nobody waits for it; ``alone`` that it gets a transaction
    of its own; ``makes_room`` that it deletes, and so may use the room that is reserved for that.
    """

    __slots__ = ("alone", "error", "future", "makes_room", "operation", "result", "withdrawable")

    def __init__(
        self,
        operation: Operation[Any],
        future: asyncio.Future[Any] | None = None,
        *,
        withdrawable: bool = False,
        makes_room: bool = False,
    ) -> None:
        self.operation = operation
        self.future = future
        self.withdrawable = withdrawable
        self.makes_room = makes_room
        self.alone = False
        self.result: Any = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Tell who waits. On the event loop."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Jobs:
    """The queue. A job is in it until it is taken or withdrawn, and only one of the two ever happens to it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Job, None] = {}
        self._is_open = False
        self._is_idle = False
        self._give_up_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Let jobs in."""
        with self._changed:
            self._is_open = True

    def close(self, seconds: float) -> None:
        """Let no more jobs in; what is in the queue has so many seconds left."""
        with self._changed:
            self._is_open = False
            self._give_up_at = time.monotonic() + seconds
            self._changed.notify()

    @property
    def is_given_up(self) -> bool:
        """Whether the queue was closed, and what is in it had its time."""
        return not self._is_open and time.monotonic() > self._give_up_at

    def put(self, job: Job) -> None:
        """Add a job. Raises ``NotDone``."""
        with self._changed:
            if not self._is_open:
                raise NotDone("the database is not open")
            if len(self._waiting) >= _MOST_WAITING:
                raise NotDone("too much waits to be written")
            self._waiting[job] = None
            if self._is_idle:
                self._is_idle = False
                self._changed.notify()

    def withdraw(self, job: Job) -> bool:
        """Take a job back out; False when it was taken already, or is to be done in any case."""
        with self._changed:
            if not job.withdrawable or job not in self._waiting:
                return False
            del self._waiting[job]
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until there are jobs, or so long; False when the queue is closed and empty."""
        with self._changed:
            if self._is_open and not self._waiting and seconds > 0:
                self._is_idle = True
                self._changed.wait(seconds)
                self._is_idle = False
            return self._is_open or bool(self._waiting)

    def take(self) -> list[Job]:
        """The jobs of the next transaction: all there are, or one that is to be alone."""
        with self._changed:
            first = next(iter(self._waiting), None)
            if first is not None and first.alone:
                del self._waiting[first]
                return [first]
            return self._take_all()

    def take_all(self) -> list[Job]:
        """All jobs."""
        with self._changed:
            return self._take_all()

    def _take_all(self) -> list[Job]:
        jobs, self._waiting = list(self._waiting), {}
        return jobs

    def put_back(self, jobs: list[Job]) -> None:
        """Have jobs done one by one, before all others; but for those that nobody wants any more."""
        for job in jobs:
            job.alone = True
        wanted = [job for job in jobs if not (job.withdrawable and job.future and job.future.done())]
        with self._changed:
            self._waiting = {**dict.fromkeys(wanted), **self._waiting}
