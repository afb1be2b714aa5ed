"""Time-outs of one length, of single waits and of several together."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from pipeline.timing.timeouts import Timeouts, fail, pause, within

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, None]], None]
# The clock of a loop counts whole milliseconds.
TICK = 0.002


def future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


def has_timer(timeouts: Timeouts[Any]) -> bool:
    return timeouts._timer is not None


class Told(list[tuple[str, float]]):
    """Items, and how long after the beginning their time was over."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def expire(self, item: str) -> None:
        self.append((item, time.monotonic() - self.began))

    @property
    def items(self) -> list[str]:
        return [item for item, _ in self]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self) < count:
                await asyncio.sleep(0.005)


async def test_what_has_no_result_in_time_ends_in_a_timeout() -> None:
    """Each one, in the order in which they were added, and none before its time."""
    timeouts = Timeouts(0.05, fail)
    loop = asyncio.get_running_loop()
    started = loop.time()
    first, second = future(), future()
    timeouts.add(first)
    await asyncio.sleep(0.02)
    timeouts.add(second)
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    with pytest.raises(TimeoutError):
        await second
    assert loop.time() - started >= 0.07 - TICK


async def test_what_has_its_result_keeps_it() -> None:
    """Also where one before it has timed out, and where nobody has discarded it."""
    timeouts = Timeouts(0.01, fail)
    late, early = future(), future()
    timeouts.add(late)
    timeouts.add(early)
    early.set_result(1)
    with pytest.raises(TimeoutError):
        await late
    await asyncio.sleep(0.03)
    assert await early == 1


async def test_a_cancelled_wait_is_left_alone() -> None:
    """Nobody waits for it any more."""
    timeouts = Timeouts(0.01, fail)
    waiting = future()
    timeouts.add(waiting)
    waiting.cancel()
    await asyncio.sleep(0.03)
    assert waiting.cancelled()


async def test_each_is_told_once() -> None:
    """When its time is over, and not before."""
    told = Told()
    timeouts = Timeouts(0.05, told.expire)
    timeouts.add("a")
    await told.has(1)
    await asyncio.sleep(0.15)
    assert told.items == ["a"]
    assert told[0][1] >= 0.05 - TICK


async def test_what_is_discarded_is_not_told() -> None:
    """Nor does it disturb to discard what never waited, or waits no more."""
    told = Told()
    timeouts = Timeouts(0.02, told.expire)
    timeouts.discard("never")
    for item in ("a", "b", "c"):
        timeouts.add(item)
    timeouts.discard("a")
    timeouts.discard("b")
    timeouts.discard("b")
    await told.has(1)
    timeouts.discard("c")
    await asyncio.sleep(0.05)
    assert told.items == ["c"]


async def test_what_waits_anew_has_the_whole_time_anew() -> None:
    """Its first time does not count."""
    told = Told()
    timeouts = Timeouts(0.1, told.expire)
    timeouts.add("a")
    timeouts.add("b")
    await asyncio.sleep(0.06)
    timeouts.discard("a")
    timeouts.add("a")
    await told.has(2)
    assert told.items == ["b", "a"]
    assert told[1][1] >= 0.16 - TICK


async def test_what_comes_later_is_told_later() -> None:
    """For as long as anything waits, and again after nothing did."""
    told = Told()
    timeouts = Timeouts(0.05, told.expire)
    timeouts.add("a")
    await asyncio.sleep(0.03)
    timeouts.add("b")
    await told.has(2)
    assert told.items == ["a", "b"]
    assert told[1][1] >= 0.08 - TICK
    timeouts.add("c")
    await told.has(3)


async def test_there_is_no_timer_while_nothing_waits() -> None:
    """Neither before the first wait nor after the last, whether its time was over or not."""
    told = Told()
    timeouts = Timeouts(0.01, told.expire)
    assert not has_timer(timeouts)
    timeouts.add("a")
    assert has_timer(timeouts)
    await told.has(1)
    assert not has_timer(timeouts)
    timeouts.add("b")
    timeouts.discard("b")
    await asyncio.sleep(0.03)
    assert not has_timer(timeouts)
    assert told.items == ["a"]


async def test_one_timer_does_for_all() -> None:
    """However many wait; and what is discarded is not kept, however long it might have waited."""
    timeouts: Timeouts[int] = Timeouts(60, lambda _: None)
    timeouts.add(-1)
    timer = timeouts._timer
    for item in range(1000):
        timeouts.add(item)
        timeouts.discard(item)
    assert timer is not None
    assert timeouts._timer is timer
    assert list(timeouts._due) == [-1]
    timer.cancel()


async def test_those_that_wait_can_be_hurried() -> None:
    """Whoever waits, and nobody who comes later; who was due sooner stays so."""
    told = Told()
    timeouts = Timeouts(0.3, told.expire)
    timeouts.add("first")
    await asyncio.sleep(0.25)
    timeouts.add("second")
    timeouts.shorten(0.1)
    timeouts.add("third")
    await told.has(3)
    assert told.items == ["first", "second", "third"]
    first, second, third = (after for _, after in told)
    assert 0.3 - TICK <= first < 0.5
    assert 0.35 - TICK <= second < 0.5
    assert third >= 0.55 - TICK


async def test_to_hurry_nobody_starts_no_timer() -> None:
    """And ends one that is not needed any more."""
    timeouts: Timeouts[str] = Timeouts(60, lambda _: None)
    timeouts.shorten(1)
    assert not has_timer(timeouts)
    timeouts.add("a")
    timeouts.discard("a")
    timeouts.shorten(1)
    assert not has_timer(timeouts)


async def test_one_that_fails_keeps_no_other_waiting() -> None:
    """Neither those that are due at the same time nor those that come later."""
    told = Told()

    def expire(item: str) -> None:
        if item == "fails":
            raise LookupError
        told.expire(item)

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context["exception"])
    )
    timeouts = Timeouts(0.02, expire)
    timeouts.add("fails")
    timeouts.add("neighbour")
    await told.has(1)
    timeouts.add("later")
    await told.has(2)
    assert told.items == ["neighbour", "later"]
    assert [type(one) for one in complaints] == [LookupError]


async def test_one_that_is_told_may_discard_others_and_add_them_anew() -> None:
    """Also those that are due at the same time: they are not told, or in their new time."""
    told = Told()

    def expire(item: str) -> None:
        told.expire(item)
        if item == "first":
            timeouts.discard("discarded")
            timeouts.discard("anew")
            timeouts.add("anew")
            timeouts.add("new")

    timeouts = Timeouts(0.05, expire)
    for item in ("first", "discarded", "anew", "last"):
        timeouts.add(item)
    await told.has(4)
    await asyncio.sleep(0.1)
    assert told.items == ["first", "last", "anew", "new"]
    assert told[2][1] >= 0.1 - TICK
    assert not has_timer(timeouts)


async def test_one_that_is_told_may_hurry_the_others() -> None:
    """They are told in their new time."""
    told = Told()

    def expire(item: str) -> None:
        told.expire(item)
        if item == "first":
            timeouts.shorten(0.02)

    timeouts = Timeouts(0.3, expire)
    timeouts.add("first")
    await asyncio.sleep(0.25)
    timeouts.add("second")
    await told.has(2)
    assert told[1][1] < 0.5
    assert not has_timer(timeouts)


async def waiting_for_a_future(waiting: asyncio.Future[int]) -> int:
    Timeouts(0.05, fail).add(waiting)
    return await waiting


async def waiting_within(waiting: asyncio.Future[int]) -> int:
    return await within(0.05, waiting)


async def pausing(waiting: asyncio.Future[int]) -> int:
    await pause(0.05)
    assert waiting.done()
    return await waiting


@LOOPS
@pytest.mark.parametrize("wait", [waiting_for_a_future, waiting_within, pausing])
def test_an_answer_that_came_during_a_pause_of_our_own_is_in_time(
    run: Run, wait: Callable[[asyncio.Future[int]], Awaitable[int]]
) -> None:
    """It lies in the socket's buffer when the time is over: it is read before anything is called late."""

    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            reader, writer = await asyncio.open_connection(sock=here)
            waiting = future()

            async def read() -> None:
                waiting.set_result(len(await reader.read(1)))

            reading = asyncio.create_task(read())
            answer = asyncio.ensure_future(wait(waiting))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            there.send(b"x")
            time.sleep(0.2)  # noqa: ASYNC251 - that is the pause
            assert await answer == 1
            await reading
            writer.close()

    run(main())


@LOOPS
def test_what_is_added_after_a_long_iteration_has_all_of_its_time(run: Run) -> None:
    """The time that our own process took before is not counted."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = future(), future()
        timeouts = Timeouts(0.2, fail)
        timeouts.add(first)
        time.sleep(0.3)  # noqa: ASYNC251 - that is the long iteration
        timeouts.add(second)
        loop.call_later(0.05, second.set_result, 1)
        with pytest.raises(TimeoutError):
            await first
        assert await second == 1

    run(main())


async def test_several_waits_end_together() -> None:
    """In time they give what they give; else they are cancelled, wherever they are."""
    reached: list[str] = []

    async def step(seconds: float) -> str:
        for name in ("first", "second"):
            reached.append(name)
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                reached.append("cancelled")
                raise
        return "done"

    assert await within(20, step(0.01)) == "done"
    with pytest.raises(TimeoutError):
        await within(0.06, step(0.05))
    assert reached == ["first", "second", "first", "second", "cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_several_waits_raise_is_raised() -> None:
    """Nothing is left behind that would strike later."""

    async def step() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await within(0.02, step())
    await asyncio.sleep(0.05)


async def test_the_cancellation_of_others_is_no_timeout() -> None:
    """Whoever waits is told what it is."""
    task = asyncio.create_task(within(20, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_pause_lasts_as_long_as_it_says() -> None:
    """At least."""
    began = time.monotonic()
    await pause(0.05)
    assert time.monotonic() - began >= 0.05 - TICK
