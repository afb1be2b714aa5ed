"""The boundary: every request inside it gets a tracking_id, a deadline, one answer, and one line in the log.

Two of them stand side by side, one around the stages of a send and one around the router with all other paths, outside
Starlette's own error handling: whatever is raised anywhere inside becomes an ErrorResponse here and nowhere else.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import codes
from pipeline.answer import Answer, accepted
from pipeline.context import Context
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.payload import ClientDisconnected
from pipeline.ports import Clock, Telemetry
from pipeline.timer import Timers

CLIENT_CLOSED_REQUEST = 499
"""The status in logs and metrics of a request whose client went away, or that was cut off; nothing is sent."""

# After SIGTERM every request is to have its answer within 15 s: these for its body, then REQUEST_SECONDS.
_DRAIN_BODY_SECONDS = 3.0


class Boundary:
    """Around ``app``; ``is_send`` when all that it serves are sends."""

    def __init__(self, app: ASGIApp, clock: Clock, telemetry: Telemetry, *, is_send: bool = False) -> None:
        self.app = app
        self.is_send = is_send
        self.clock = clock
        self.telemetry = telemetry
        self.timers = Timers()
        self.contexts: set[Context] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises nothing but cancellation."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = Context(scope, self.timers, is_send=self.is_send)
        self.contexts.add(context)
        status = 0

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *context.answer_headers()]
                status = message["status"]
            await send(message)

        failure: NotAccepted | None = None
        error: BaseException | None = None
        try:
            try:
                with context.timer:
                    await self.app(scope, receive, answering)
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - a bug anywhere inside is answered here
                error = raised
            if error is not None and not isinstance(error, ClientDisconnected):
                failure = _failure(context, error)
                if not status:
                    answer = self._answer(context, failure)
                    status = answer.status
                    await answer.send(send, context.answer_headers())
            if isinstance(error, asyncio.CancelledError):
                raise error
        finally:
            self.contexts.discard(context)
            self.telemetry.answered(context, status or CLIENT_CLOSED_REQUEST, failure)
            # Their tracebacks hold this frame: a circle would wait for the garbage collector.
            del failure, error

    def drain(self) -> None:
        """The process is about to end: bodies that are still arriving must hurry."""
        for context in self.contexts:
            context.hurry(_DRAIN_BODY_SECONDS)

    def _answer(self, context: Context, failure: NotAccepted) -> Answer:
        if context.is_published:
            # What failed did so after the confirm: the sender is told of his message, the operators of the failure.
            return accepted(context.tracking_id)
        return failure.answer(context.tracking_id, self.clock.now())


def _failure(context: Context, error: BaseException) -> NotAccepted:
    """What the sender is told of ``error``. After a publish has begun nothing can be called refused any more."""
    failure = error if isinstance(error, NotAccepted) else _refusal(context, error)
    in_doubt = context.may_be_published and not context.is_published
    if in_doubt and not isinstance(failure, OutcomeUnknown):
        unknown = OutcomeUnknown()
        unknown.__cause__ = failure.__cause__ or failure
        unknown.stage = failure.stage
        return unknown
    return failure


def _refusal(context: Context, error: BaseException) -> Refused:
    if isinstance(error, asyncio.CancelledError):
        # The server is ended by force. It would answer in words of its own, and perhaps untruly.
        return Refused(codes.SERVICE_UNAVAILABLE, retry_after=1)
    if isinstance(error, TimeoutError) and context.timer.expired():
        if context.is_reading:
            return Refused(codes.REQUEST_TIMEOUT, headers=((b"connection", b"close"),))
        return Refused(codes.SERVICE_UNAVAILABLE, retry_after=1)
    failure = Refused(codes.INTERNAL_ERROR)
    failure.__cause__ = error
    return failure
