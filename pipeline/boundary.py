"""The boundary: every request inside it gets a tracking_id, a deadline, one answer, and one line in the log.

Two of them stand side by side, one around the stages of a send and one around the router with all other paths, outside
Starlette's own error handling: whatever is raised anywhere inside becomes an ErrorResponse here and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.answer import JSON, Answer, Reply, accepted
from pipeline.context import Context
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.ids import random_uuid
from pipeline.payload import ClientDisconnected
from pipeline.ports import Clock, Telemetry
from pipeline.timing.deadline import Deadlines

CLIENT_CLOSED_REQUEST = 499
"""The status in logs and metrics of a request whose client went away, or that was cut off; nothing is sent."""

WHOLE_RESPONSE = "sms.response.whole"
"""An ASGI extension of our server's: a whole answer in one message, with ``status``, ``headers`` and ``body``."""

# After SIGTERM every request is to have its answer within 15 s: these for its body, then REQUEST_SECONDS.
_DRAIN_BODY_SECONDS = 3.0
_OVERLOAD = "Too many requests are in flight. Nothing was sent; try again in a second."


class Boundary:
    """Around ``app``; serves at most ``most_in_flight`` at once, and one more is refused, never queued.

    ``is_send`` when all that it serves are sends.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Clock,
        telemetry: Telemetry,
        *,
        is_send: bool = False,
        most_in_flight: float = float("inf"),
        deadlines: Deadlines | None = None,
    ) -> None:
        self.app = app
        self.is_send = is_send
        self.clock = clock
        self.telemetry = telemetry
        self.most_in_flight = most_in_flight
        self.deadlines = deadlines or Deadlines()
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises nothing but cancellation."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.in_flight >= self.most_in_flight:
            await self._refuse(scope, send)
            return
        self.in_flight += 1
        context = Context(scope, self.deadlines, is_send=self.is_send)
        status = CLIENT_CLOSED_REQUEST
        failure: NotAccepted | None = None
        error: BaseException | None = None
        reply = Reply()
        try:
            try:
                with context.deadline:
                    await self.app(scope, receive, reply)
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - a bug anywhere inside is answered here
                error = raised
            # Before the answer leaves: what a client is slow to take is no stage's time.
            context.stopwatch.stop()
            if not isinstance(error, ClientDisconnected):
                answer = reply.answer
                if error is not None or answer is None:
                    failure = _failure(context, error)
                if failure is not None and answer is None:
                    failure, answer = self._answer(context, failure)
                assert answer is not None
                status = answer.status
                try:
                    await _leave(answer, context.answer_headers(), scope, send)
                except Exception as bug:  # noqa: BLE001 - an operator's stage has asked for headers that are none
                    failure = _failure(context, bug)
                    context.headers.clear()
                    # What it says of the message is as true without them.
                    plain = Answer(answer.status, answer.body, JSON if answer.content_type == JSON else b"")
                    await _leave(plain, context.answer_headers(), scope, send)
            if isinstance(error, asyncio.CancelledError):
                raise error
        finally:
            self.in_flight -= 1
            self.telemetry.answered(context, status, failure)
            # Their tracebacks hold this frame: a reference cycle would wait for the garbage collector.
            del failure, error

    def drain(self) -> None:
        """The process is about to end: bodies that are still arriving must hurry."""
        self.deadlines.hurry(_DRAIN_BODY_SECONDS)

    def _answer(self, context: Context, failure: NotAccepted) -> tuple[NotAccepted, Answer]:
        """What is answered to a failure, and what is told of it: a bug, where its details cannot be rendered."""
        if context.is_published:
            # What failed did so after the confirm: the sender is told of their message, the operators of the failure.
            return failure, accepted(context.tracking_id)
        now = self.clock.now()
        try:
            return failure, failure.answer(context.tracking_id, now)
        except (TypeError, ValueError) as bug:
            failure = _failure(context, bug)
            return failure, failure.answer(context.tracking_id, now)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """Refuse one request too many; in an overload refusals are what a process does most."""
        started = time.perf_counter()
        tracking_id = random_uuid()
        refusal = Refused(codes.SERVICE_UNAVAILABLE, _OVERLOAD, retry_after=1)
        answer = refusal.answer(tracking_id, self.clock.now())
        await _leave(answer, ((b"x-tracking-id", tracking_id.encode()),), scope, send)
        self.telemetry.overloaded(tracking_id, refusal, time.perf_counter() - started)


async def _leave(answer: Answer, headers: Iterable[tuple[bytes, bytes]], scope: Scope, send: Send) -> None:
    """Send the answer: in one message where the server takes it so, otherwise in those of ASGI."""
    start = {"status": answer.status, "headers": answer.all_headers(headers)}
    if WHOLE_RESPONSE in scope.get("extensions", ()):
        await send({"type": WHOLE_RESPONSE, "body": answer.body, **start})
    else:
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": answer.body})


def _failure(context: Context, error: BaseException | None) -> NotAccepted:
    """What the sender is told of ``error``. After a publish has begun nothing can be called refused any more."""
    failure = error if isinstance(error, NotAccepted) else _refusal(context, error)
    in_doubt = context.may_be_published and not context.is_published
    if in_doubt and not isinstance(failure, OutcomeUnknown):
        unknown = OutcomeUnknown()
        unknown.__cause__ = failure.__cause__ or failure
        unknown.stage = failure.stage
        failure = unknown
    deepest = context.stopwatch.deepest
    if failure.stage is None and deepest is not None:
        failure.stage = deepest.stage
    return failure


def _refusal(context: Context, error: BaseException | None) -> Refused:
    if isinstance(error, asyncio.CancelledError):
        # The server is ended by force. It would answer in words of its own, and perhaps untruly.
        return Refused(codes.SERVICE_UNAVAILABLE, retry_after=1)
    if isinstance(error, TimeoutError) and context.deadline.is_over:
        if context.is_reading:
            return Refused(codes.REQUEST_TIMEOUT, headers=((b"connection", b"close"),))
        return Refused(codes.SERVICE_UNAVAILABLE, retry_after=1)
    failure = Refused(codes.INTERNAL_ERROR)
    failure.__cause__ = error or RuntimeError("no stage has answered")
    return failure
