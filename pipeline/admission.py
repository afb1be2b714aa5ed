"""The bound on sends in flight: one more is refused at once, never queued."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.failures import Refused

# After SIGTERM every request is to have its answer within 15 s: these for its body, then REQUEST_SECONDS.
_DRAIN_BODY_SECONDS = 3.0


class InFlight:
    """The sends in flight in this process, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.contexts: set[Context] = set()

    def drain(self) -> None:
        """The process is about to end: bodies that are still arriving must hurry."""
        for context in self.contexts:
            context.hurry(_DRAIN_BODY_SECONDS)


class Admission:
    """Outermost of a send: counts it in, or refuses it in microseconds."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self.app = app
        self.in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        context.is_send = True
        contexts = self.in_flight.contexts
        if len(contexts) >= self.in_flight.limit:
            raise Refused(
                codes.SERVICE_UNAVAILABLE,
                "Too many requests are in flight. Nothing was sent; try again in a second.",
                retry_after=1,
            )
        contexts.add(context)
        try:
            await self.app(scope, receive, send)
        finally:
            contexts.discard(context)
