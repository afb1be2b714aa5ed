"""A bound on the time of a step that does not take a pause of our own process for one of the server.

When the event loop was kept busy, or the process stopped, a timer may fire although the reply has long arrived: it lies
in the socket's buffer, and nobody has had the time to read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")

# What a reply needs on its way from the socket's buffer to who waits for it: the socket is read, the reply is parsed,
# its step goes on. The first turn may have begun before any of it.
_TURNS = 5


async def within(seconds: float, step: Awaitable[_T]) -> _T:
    """What ``step`` gives. Cancels it after ``seconds``, once what had arrived by then is read: ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle

    def expire(turns: int) -> None:
        nonlocal timer
        if turns:
            timer = loop.call_soon(expire, turns - 1)
        else:
            bound.reschedule(loop.time())

    async with asyncio.timeout(None) as bound:
        timer = loop.call_later(seconds, expire, _TURNS)
        try:
            return await step
        finally:
            timer.cancel()


async def pause(seconds: float) -> None:
    """Sleep, and return when what had arrived by then is read."""
    await asyncio.sleep(seconds)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
