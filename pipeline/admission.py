"""The bound on sends in flight: one more is refused at once, never queued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.failures import Refused

# After SIGTERM every request is to have its answer within 15 s: these for its body, then REQUEST_SECONDS.
_DRAIN_BODY_SECONDS = 3.0


class InFlight:
    """The sends in flight in this process, at most ``limit``; ``watch`` is told their number at each change."""

    def __init__(self, limit: int, watch: Callable[[int], None]) -> None:
        self.limit = limit
        self.watch = watch
        self.contexts: set[Context] = set()

    @contextmanager
    def holding(self, context: Context) -> Iterator[None]:
        """Count a request in, or refuse it."""
        if len(self.contexts) >= self.limit:
            raise Refused(
                codes.SERVICE_UNAVAILABLE,
                "Too many requests are in flight. Nothing was sent; try again in a second.",
                retry_after=1,
            )
        self.contexts.add(context)
        self.watch(len(self.contexts))
        try:
            yield
        finally:
            self.contexts.discard(context)
            self.watch(len(self.contexts))

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
        with self.in_flight.holding(context):
            await self.app(scope, receive, send)
