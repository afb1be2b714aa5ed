"""The deadline of a request, held to ``asyncio.timeout``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pipeline.timing.deadline import Deadline, Deadlines

Within = Callable[[float], AbstractAsyncContextManager[object]]


@contextlib.asynccontextmanager
async def ours(seconds: float) -> AsyncIterator[Deadline]:
    with Deadline(Deadlines(body_seconds=seconds)) as deadline:
        yield deadline


@pytest.fixture(params=[ours, asyncio.timeout], ids=["ours", "asyncio"])
def within(request: pytest.FixtureRequest) -> Within:
    found: Within = request.param
    return found


def is_over(deadline: Any) -> bool:
    """Whether its time has passed, in the words of either."""
    return bool(deadline.is_over if isinstance(deadline, Deadline) else deadline.expired())


async def test_work_that_takes_too_long_ends_in_a_timeout(within: Within) -> None:
    """And the task it was part of goes on."""
    with pytest.raises(TimeoutError):
        async with within(0.01) as deadline:
            await asyncio.Event().wait()
    assert is_over(deadline)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_work_in_time_is_left_alone(within: Within) -> None:
    """Nothing strikes afterwards."""
    async with within(0.01) as deadline:
        pass
    await asyncio.sleep(0.03)
    assert not is_over(deadline)


async def test_the_rest_has_a_time_of_its_own() -> None:
    """From the body on, however long the body may have taken."""
    with Deadline(Deadlines(body_seconds=0.05, request_seconds=60)) as deadline:
        deadline.body_is_there()
        await asyncio.sleep(0.1)
    assert not deadline.is_over

    async def work() -> None:
        with Deadline(Deadlines(body_seconds=60, request_seconds=0.01)) as deadline:
            deadline.body_is_there()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()


async def test_bodies_can_be_hurried() -> None:
    """Those that are still to come, and nobody else; and none is given more time by it."""
    deadlines = Deadlines(body_seconds=60, request_seconds=60)
    ended: list[str] = []

    async def work(name: str, *, has_body: bool) -> None:
        try:
            with Deadline(deadlines) as deadline:
                if has_body:
                    deadline.body_is_there()
                await asyncio.sleep(0.2)
        except TimeoutError:
            ended.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work("body", has_body=False))
        tasks.create_task(work("rest", has_body=True))
        await asyncio.sleep(0)
        deadlines.hurry(0.01)
        deadlines.hurry(60)
    assert ended == ["body"]


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


async def test_what_is_over_leaves_nothing_behind() -> None:
    """Neither where it ended in time nor where it did not."""
    deadlines = Deadlines(body_seconds=0.01)
    for seconds in (0, 1):
        with contextlib.suppress(TimeoutError), Deadline(deadlines):
            await asyncio.sleep(seconds)
    late = Deadline(deadlines)
    with late:
        pass
    late.expire()
    assert not late.is_over
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
