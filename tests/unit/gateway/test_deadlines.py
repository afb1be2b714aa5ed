"""Deadlines of one length."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.deadlines import Deadlines


def future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


async def test_what_has_no_result_in_time_ends_in_a_timeout() -> None:
    """Each one, in the order in which they were watched, and none before its time."""
    deadlines = Deadlines(0.05)
    loop = asyncio.get_running_loop()
    started = loop.time()
    first, second = future(), future()
    deadlines.watch(first)
    await asyncio.sleep(0.02)
    deadlines.watch(second)
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    with pytest.raises(TimeoutError):
        await second
    # The clock of a loop counts whole milliseconds.
    assert loop.time() - started >= 0.07 - 0.002


async def test_what_has_its_result_keeps_it() -> None:
    """Also where one before it has timed out."""
    deadlines = Deadlines(0.01)
    late, early = future(), future()
    deadlines.watch(late)
    deadlines.watch(early)
    early.set_result(1)
    with pytest.raises(TimeoutError):
        await late
    assert await early == 1


async def test_a_later_wait_is_timed_after_a_pause() -> None:
    """When nothing waits there is no timer; the next wait starts one."""
    deadlines = Deadlines(0.01)
    for _ in range(2):
        waiting = future()
        deadlines.watch(waiting)
        with pytest.raises(TimeoutError):
            await waiting
        await asyncio.sleep(0)
        assert deadlines._timer is None


async def test_a_cancelled_wait_is_left_alone() -> None:
    """Nobody waits for it any more."""
    deadlines = Deadlines(0.01)
    waiting = future()
    deadlines.watch(waiting)
    waiting.cancel()
    await asyncio.sleep(0.03)
    assert waiting.cancelled()


async def test_results_are_not_kept() -> None:
    """However long the deadline is, and however many waits there are."""
    deadlines = Deadlines(60)
    for _ in range(1000):
        waiting = future()
        deadlines.watch(waiting)
        waiting.set_result(0)
    assert len(deadlines._waiting) == 1
    assert deadlines._timer is not None
    deadlines._timer.cancel()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_answer_that_came_during_a_pause_of_our_own_is_in_time(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """It lies in the socket's buffer when the deadline passes: it is read before anything is called late."""

    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            reader, writer = await asyncio.open_connection(sock=here)
            waiting = future()

            async def read() -> None:
                waiting.set_result(len(await reader.read(1)))

            deadlines = Deadlines(0.05)
            deadlines.watch(waiting)
            reading = asyncio.create_task(read())
            await asyncio.sleep(0)
            there.send(b"x")
            time.sleep(0.2)  # noqa: ASYNC251 - that is the pause
            assert await waiting == 1
            await reading
            writer.close()

    run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_is_watched_after_a_long_turn_has_all_of_its_time(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """The time that our own process took before is not counted."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = future(), future()
        deadlines = Deadlines(0.2)
        deadlines.watch(first)
        time.sleep(0.3)  # noqa: ASYNC251 - that is the long turn
        deadlines.watch(second)
        loop.call_later(0.05, second.set_result, 1)
        with pytest.raises(TimeoutError):
            await first
        assert await second == 1

    run(main())
