"""The deadline of a request: what ``asyncio.timeout`` does, for a tenth of what it costs each request.

Hardly any deadline passes. So no request has a timer on the event loop: one for all looks when the next may be due.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Timers:
    """The timers that run, looked at when the next one may be due. Belongs to one event loop."""

    def __init__(self) -> None:
        self.running: set[Timer] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._next = 0.0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Looked up once: Python 3.11 makes a system call of it each time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, timer: Timer) -> None:
        """Look at ``timer`` from now on."""
        self.running.add(timer)
        self.look_by(timer.when())

    def look_by(self, when: float) -> None:
        """Look at this time of the loop's clock, or before it."""
        if self._handle is None:
            self._look_at(when)
        elif when < self._next:
            self._handle.cancel()
            self._look_at(when)

    def _look_at(self, when: float) -> None:
        self._next = when
        self._handle = self.loop.call_at(when, self._look)

    def _look(self) -> None:
        self._handle = None
        now = self.loop.time()
        waiting = [timer.when() for timer in self.running if not timer.has_struck(now)]
        if waiting:
            self._look_at(min(waiting))


class Timer:
    """A context manager that ends the task inside it by ``TimeoutError`` when its time has passed.

    It strikes at ``when``, a time of the event loop's clock. Like ``asyncio.timeout`` it tells its own cancellation
    from that of others.
    """

    __slots__ = ("_cancelling", "_has_expired", "_task", "_timers", "_when")

    def __init__(self, seconds: float, timers: Timers) -> None:
        self._timers = timers
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._has_expired = False
        self._when = timers.loop.time() + seconds

    def when(self) -> float:
        """When its time has passed, by the loop's clock."""
        return self._when

    def expired(self) -> bool:
        """Whether it has struck."""
        return self._has_expired

    def reschedule(self, when: float) -> None:
        """Have it strike at another time."""
        earlier = when < self._when
        self._when = when
        if earlier and self._task is not None:
            self._timers.look_by(when)

    def from_now(self, seconds: float) -> float:
        """The time of the loop's clock that is so far ahead."""
        return self._timers.loop.time() + seconds

    def has_struck(self, now: float) -> bool:
        """Strike if it is time to; whether there is nothing to wait for any more."""
        if self._when <= now and not self._has_expired and self._task is not None:
            self._has_expired = True
            self._task.cancel()
        return self._has_expired

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._timers.loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timers.running.discard(self)
        task, self._task = self._task, None
        if (
            self._has_expired
            and task is not None
            and task.uncancel() <= self._cancelling
            and isinstance(error, asyncio.CancelledError)
        ):
            raise TimeoutError from error
