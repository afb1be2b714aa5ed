"""The deadline of a request, held to ``asyncio.timeout``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from pipeline.timer import Timer, Timers


class Deadline(Protocol):
    """What the two have in common."""

    def expired(self) -> bool: ...
    def reschedule(self, when: float) -> None: ...


Within = Callable[[float], AbstractAsyncContextManager[Deadline]]


@contextlib.asynccontextmanager
async def ours(seconds: float) -> AsyncIterator[Deadline]:
    timers = Timers()
    with Timer(seconds, timers) as timer:
        yield timer
    assert timers.running == set()


@contextlib.asynccontextmanager
async def theirs(seconds: float) -> AsyncIterator[Deadline]:
    async with asyncio.timeout(seconds) as timeout:
        yield timeout


@pytest.fixture(params=[ours, theirs], ids=["ours", "asyncio"])
def within(request: pytest.FixtureRequest) -> Within:
    found: Within = request.param
    return found


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_work_that_takes_too_long_ends_in_a_timeout(within: Within) -> None:
    """And the task it was part of goes on."""
    with pytest.raises(TimeoutError):
        async with within(0.01) as deadline:
            await asyncio.Event().wait()
    assert deadline.expired()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_work_in_time_is_left_alone(within: Within) -> None:
    """Nothing strikes afterwards."""
    async with within(0.01) as deadline:
        pass
    await asyncio.sleep(0.03)
    assert not deadline.expired()


async def test_it_can_be_put_off(within: Within) -> None:
    """Also when it was to strike soon."""
    async with within(0.01) as deadline:
        deadline.reschedule(now() + 10)
        await asyncio.sleep(0.05)
    assert not deadline.expired()


async def test_it_can_be_brought_forward(within: Within) -> None:
    """Even to this very moment."""

    async def work(seconds: float) -> None:
        async with within(10) as deadline:
            deadline.reschedule(now() + seconds)
            await asyncio.Event().wait()

    for later in (0.01, 0):
        with pytest.raises(TimeoutError):
            await work(later)


async def test_the_cancellation_of_others_stays_what_it_is(within: Within) -> None:
    """Nobody takes it for a timeout."""

    async def work() -> None:
        async with within(10):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_cancellation_of_others_wins(within: Within) -> None:
    """Also where the deadline passes at the same moment."""

    async def work() -> None:
        async with within(0):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_of_the_work_is_passed_on(within: Within) -> None:
    """It is no timeout, although the deadline has struck."""

    async def work() -> None:
        async with within(0.01):
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await work()


async def test_many_strike_each_in_its_time() -> None:
    """One timer looks at them all."""
    timers = Timers()
    struck: list[int] = []

    async def work(number: int) -> None:
        with contextlib.suppress(TimeoutError), Timer(0.02 * number, timers):
            await asyncio.Event().wait()
        struck.append(number)

    await asyncio.gather(*(work(number) for number in (3, 1, 5, 2, 4)))
    assert struck == [1, 2, 3, 4, 5]
    assert timers.running == set()
    assert timers._handle is None
