"""Bounds on the time of several waits together that do not take a pause of our own process for one of the server.

``gateway.deadlines`` says how such a mistake happens, and bounds a single wait at less expense.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from gateway.deadlines import TURNS

_T = TypeVar("_T")


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
        timer = loop.call_later(seconds, expire, TURNS)
        try:
            return await step
        finally:
            timer.cancel()


async def pause(seconds: float) -> None:
    """Sleep, and return when what had arrived by then is read."""
    await asyncio.sleep(seconds)
    for _ in range(TURNS):
        await asyncio.sleep(0)
