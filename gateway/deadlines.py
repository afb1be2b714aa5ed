"""Deadlines of one length: a timer for each wait would cost more than many a wait itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

TURNS = 5
"""How many turns of the loop an answer may need from the socket's buffer to who waits for it.

The socket is read, the answer is parsed, its step goes on. The first turn may have begun before any of it.
"""


class Deadlines:
    """Ends futures that have no result ``seconds`` after they were watched, by ``TimeoutError``.

    A pause of our own process is not taken for silence of the other side: when the event loop was kept busy, or the
    process stopped, a deadline may have passed although the answer has long arrived, and nobody has had the time to
    read it. So a future whose time is over has a few turns of the loop more.

    What is watched first is due first, so one timer does for all of them. Belongs to one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.Handle | None = None

    def watch(self, future: asyncio.Future[Any]) -> None:
        """Let ``future`` have this long from now."""
        self._forget_done()
        # Not the loop's clock: uvloop's stands still during a turn, and the turn may have been a long one.
        self._waiting.append((time.monotonic() + self.seconds, future))
        if self._timer is None:
            loop = future.get_loop()
            self._timer = loop.call_later(self.seconds, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._forget_done()
        now = time.monotonic()
        if self._waiting and self._waiting[0][0] <= now:
            self._expire(loop, now, TURNS)
        else:
            self._set(loop, now)

    def _expire(self, loop: asyncio.AbstractEventLoop, due: float, turns: int) -> None:
        """End what was ``due`` then and is not done after so many turns."""
        if turns:
            self._timer = loop.call_soon(self._expire, loop, due, turns - 1)
            return
        while self._waiting and self._waiting[0][0] <= due:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError())
        self._forget_done()
        self._set(loop, time.monotonic())

    def _set(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._timer = None
        if self._waiting:
            self._timer = loop.call_later(self._waiting[0][0] - now, self._ring, loop)

    def _forget_done(self) -> None:
        """Keep no results in memory for longer than they are waited for."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
