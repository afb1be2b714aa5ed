"""The bound on sends in flight."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from starlette.types import Receive, Scope, Send

from pipeline.admission import Admission, InFlight
from pipeline.failures import Refused
from tests.unit.asgi import Exchange, Inner


async def test_a_send_is_counted_while_it_is_served() -> None:
    """The number is told at each change and returns to 0; the context knows that it is a send."""
    numbers: list[int] = []
    inner = Inner()
    in_flight = InFlight(2, numbers.append)
    await Exchange().through(Admission(inner, in_flight))
    assert numbers == [1, 0]
    assert inner.context.is_send


async def test_one_more_than_the_limit_is_refused_at_once() -> None:
    """It is refused without reaching the inner app, is told when to come back, and later ones are served again."""
    numbers: list[int] = []
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()

    admission = Admission(slow, InFlight(2, numbers.append))
    served = [asyncio.create_task(Exchange().through(admission)) for _ in range(2)]
    await asyncio.sleep(0)
    refused_exchange = Exchange()
    with pytest.raises(Refused, match="SERVICE_UNAVAILABLE") as refused:
        await refused_exchange.through(admission)
    assert refused.value.retry_after == 1
    assert refused_exchange.context.is_send
    go_on.set()
    await asyncio.gather(*served)
    await Exchange().through(admission)
    assert numbers == [1, 2, 1, 0, 1, 0]


async def test_a_send_that_fails_is_counted_out() -> None:
    """A failure inside leaves no phantom in flight."""
    in_flight = InFlight(1, lambda number: None)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="bug"):
            await Exchange().through(Admission(Inner(RuntimeError("bug")), in_flight))
    assert not in_flight.contexts


async def test_draining_hurries_the_bodies_that_still_arrive() -> None:
    """When the process ends, a body gets seconds, not its whole time; what has its body is left alone."""
    in_flight = InFlight(2, lambda number: None)
    reading, working = Exchange().context, Exchange().context
    reading.is_reading = True
    async with reading.timer, working.timer:
        before = working.timer.when()
        with in_flight.holding(reading), in_flight.holding(working):
            in_flight.drain()
        latest = asyncio.get_running_loop().time() + 3
        assert reading.timer.when() == pytest.approx(latest, abs=0.5)
        assert working.timer.when() == before


async def test_draining_hurries_the_others_though_one_is_over() -> None:
    """A request whose deadline has just struck cannot be hurried any more, and keeps nobody from being hurried."""
    in_flight = InFlight(2, lambda number: None)
    over, reading = Exchange().context, Exchange().context
    over.is_reading = reading.is_reading = True
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with reading.timer, over.timer:
            over.timer.reschedule(loop.time())
            with in_flight.holding(over), in_flight.holding(reading):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)
                in_flight.drain()
            assert reading.timer.when() == pytest.approx(loop.time() + 3, abs=0.5)
