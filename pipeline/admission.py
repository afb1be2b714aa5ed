"""The bound on sends in flight: one more is refused at once, in microseconds, never queued."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.failures import Refused
from pipeline.ids import random_uuid
from pipeline.ports import Clock, Telemetry

_MESSAGE = "Too many requests are in flight. Nothing was sent; try again in a second."


class Admission:
    """Outermost of a send, outside its boundary: serves at most ``limit`` at once.

    In an overload refusals are what a process does most. So this one is not raised: it is answered and told right here.
    """

    def __init__(self, app: ASGIApp, limit: int, clock: Clock, telemetry: Telemetry) -> None:
        self.app = app
        self.limit = limit
        self.clock = clock
        self.telemetry = telemetry
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.in_flight >= self.limit:
            await self._refuse(send)
            return
        self.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _refuse(self, send: Send) -> None:
        started = time.perf_counter()
        tracking_id = random_uuid()
        refusal = Refused(
            codes.SERVICE_UNAVAILABLE,
            _MESSAGE,
            retry_after=1,
            headers=((b"x-tracking-id", tracking_id.encode()),),
        )
        await refusal.answer(tracking_id, self.clock.now()).send(send)
        self.telemetry.overloaded(tracking_id, refusal, time.perf_counter() - started)
