"""Time-outs of one length: one timer for all that wait, since one for each would cost more than many a wait.

A pause of our own process is not taken for silence of the other side. When the event loop was kept busy, or the process
was stopped, a time-out may have passed although what it waits for has long arrived, and nobody has had the time to read
it. So whatever is due has some iterations of the event loop more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE_ITERATIONS = 5
"""How many iterations of the event loop an answer may need from the socket's buffer to whoever waits for it.

The socket is read, the answer is parsed, its step goes on. The first iteration may have begun before any of it.
"""


class Timeouts(Generic[Item]):
    """Calls ``expire`` with each item that was added ``seconds`` ago and not discarded since.

    Items are hashable. All wait equally long, so the first to be added is the first to be due. Belongs to one event
    loop.
    """

    def __init__(self, seconds: float, expire: Callable[[Item], None]) -> None:
        self.seconds = seconds
        self._expire = expire
        self._due: dict[Item, float] = {}
        self._timer: asyncio.Handle | None = None

    def add(self, item: Item) -> None:
        """Let it wait from now on. One that waits already must be discarded first, or it would be out of order."""
        # Not the loop's clock: uvloop's stands still during an iteration, and the iteration may have been a long one.
        self._due[item] = time.monotonic() + self.seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._look)

    def discard(self, item: Item) -> None:
        """It waits no more, or never did."""
        self._due.pop(item, None)

    def shorten(self, seconds: float) -> None:
        """Let whatever waits now be due in so many seconds at the latest."""
        latest = time.monotonic() + seconds
        self._due.update({item: min(due, latest) for item, due in self._due.items()})
        self._set()

    def _look(self) -> None:
        now = time.monotonic()
        if self._due and self._first() <= now:
            self._give_grace(now, GRACE_ITERATIONS)
        else:
            self._set()

    def _give_grace(self, now: float, iterations: int) -> None:
        """End what was due by ``now`` and still waits after so many iterations."""
        if iterations:
            self._timer = asyncio.get_running_loop().call_soon(self._give_grace, now, iterations - 1)
            return
        for item, due in list(takewhile(lambda waiting: waiting[1] <= now, self._due.items())):
            # It may have been discarded when another one was ended, and even been added anew.
            if self._due.get(item) == due:
                del self._due[item]
                self._end(item)
        self._set()

    def _end(self, item: Item) -> None:
        try:
            self._expire(item)
        except Exception as error:  # noqa: BLE001 - one that fails must not keep the others waiting
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a time-out could not be told", "exception": error}
            )

    def _set(self) -> None:
        """Look again when the first is due; not at all while none waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            wait = max(0.0, self._first() - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _first(self) -> float:
        return next(iter(self._due.values()))


def fail(future: asyncio.Future[Any]) -> None:
    """End a future that has no result by ``TimeoutError``."""
    if not future.done():
        future.set_exception(TimeoutError())


async def within(seconds: float, step: Awaitable[Result]) -> Result:
    """What ``step`` gives, which may wait several times. Cancels it after ``seconds``: ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle

    def expire(iterations: int) -> None:
        nonlocal timer
        if iterations:
            timer = loop.call_soon(expire, iterations - 1)
        else:
            bound.reschedule(loop.time())

    async with asyncio.timeout(None) as bound:
        timer = loop.call_later(seconds, expire, GRACE_ITERATIONS)
        try:
            return await step
        finally:
            timer.cancel()


async def pause(seconds: float) -> None:
    """Sleep, and return when what had arrived by then is read."""
    await asyncio.sleep(seconds)
    for _ in range(GRACE_ITERATIONS):
        await asyncio.sleep(0)
