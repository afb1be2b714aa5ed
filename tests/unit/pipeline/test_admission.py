"""The bound on sends in flight."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from pipeline.admission import Admission
from schemas import load
from tests.support.asgi import Ears, Exchange, Inner, StandingClock


async def test_a_send_is_counted_while_it_is_served() -> None:
    """And no longer."""
    counted: list[int] = []

    async def looking(scope: Scope, receive: Receive, send: Send) -> None:
        counted.append(admission.in_flight)

    admission = Admission(looking, 2, StandingClock(), Ears())
    await Exchange().arriving_at(admission)
    assert (counted, admission.in_flight) == ([1], 0)


async def test_one_more_than_the_limit_is_refused_at_once() -> None:
    """It is refused without reaching the inner app, is told when to come back, and later ones are served again."""
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()

    ears = Ears()
    admission = Admission(slow, 2, StandingClock(), ears)
    served = [asyncio.create_task(Exchange().arriving_at(admission)) for _ in range(2)]
    await asyncio.sleep(0)
    refused = await Exchange().arriving_at(admission)
    assert (refused.status, refused.json["error_code"]) == (503, "SERVICE_UNAVAILABLE")
    assert load("error").violations(refused.json) == []
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-tracking-id"] == refused.json["tracking_id"]
    assert ears.overloads == [(refused.json["tracking_id"], "SERVICE_UNAVAILABLE")]
    go_on.set()
    await asyncio.gather(*served)
    await Exchange().arriving_at(admission)
    assert admission.in_flight == 0
    assert len(ears.overloads) == 1


async def test_a_send_that_fails_is_counted_out() -> None:
    """A failure inside leaves no phantom in flight."""
    admission = Admission(Inner(RuntimeError("bug")), 1, StandingClock(), Ears())
    for _ in range(3):
        with pytest.raises(RuntimeError, match="bug"):
            await Exchange().through(admission)
    assert admission.in_flight == 0
