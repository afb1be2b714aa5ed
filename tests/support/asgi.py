"""The smallest that a stage needs around it: a request, an inner app, a clock that stands still, and open ears."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.answer import Answer, accepted
from pipeline.context import Context
from pipeline.failures import NotAccepted
from pipeline.ports import Outcome
from pipeline.timing.deadline import Deadlines

NOON = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
BODY = b'{"to": "+14155552671", "text": "Hello"}'
JSON = {"content-type": "application/json"}
# A time is measured, not read off a clock.
_SOON_SECONDS = 60.0


class Exchange:
    """One request, and what was answered to it."""

    def __init__(
        self,
        body: bytes | Iterable[bytes] = BODY,
        headers: Mapping[str, str] = JSON,
        *,
        method: str = "POST",
        path: str = "/api/v1/sms/send",
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        chunks = [body] if isinstance(body, bytes) else list(body)
        self.incoming: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": position < len(chunks)}
            for position, chunk in enumerate(chunks, 1)
        ]
        self.sent: list[Message] = []

    @cached_property
    def context(self) -> Context:
        """The request's context; made when it is first asked for, which must be inside an event loop."""
        return Context(self.scope, Deadlines())

    async def receive(self) -> Message:
        return self.incoming.pop(0) if self.incoming else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def through(self, app: ASGIApp, *facts: object) -> Exchange:
        """Send it through ``app``, with these facts in its context, as if a boundary stood around it."""
        for fact in facts:
            self.context.add(fact)
        with self.context.deadline:
            await app(self.scope, self.receive, self.send)
        return self

    async def arriving_at(self, boundary: ASGIApp) -> Exchange:
        """Send it to an app that makes the context itself."""
        await boundary(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        start = self.sent[0]
        assert start["type"] == "http.response.start"
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Inner:
    """The app inside a stage: remembers what reached it, then answers or raises what it was told to.

    ``begins_to_publish`` and ``publishes`` say how far it gets before, as the terminal handler would.
    """

    def __init__(
        self,
        outcome: Answer | BaseException | None = None,
        *,
        begins_to_publish: bool = False,
        publishes: bool = False,
    ) -> None:
        self.outcome = outcome
        self.begins_to_publish = begins_to_publish or publishes
        self.publishes = publishes
        self.reached: list[Context] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert callable(receive), "the rest of the body would be lost"
        context = Context.of(scope)
        self.reached.append(context)
        context.may_be_published |= self.begins_to_publish
        context.is_published |= self.publishes
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        await (self.outcome or accepted(context.tracking_id)).send(send)

    @property
    def context(self) -> Context:
        """The context of the one request that reached it."""
        (context,) = self.reached
        return context


@dataclass
class StandingClock:
    """A clock that shows what it was set to."""

    time: datetime = NOON

    def now(self) -> datetime:
        return self.time


@dataclass
class Ears:
    """A telemetry that remembers what it was told."""

    left: list[tuple[str, float]] = field(default_factory=list)
    publishes: list[str] = field(default_factory=list)
    replays: int = 0
    store_failures: list[tuple[str, str, str]] = field(default_factory=list)
    overloads: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[Context, int, NotAccepted | None]] = field(default_factory=list)

    def stopwatch(self, stage: str) -> Callable[[float], None]:
        return lambda seconds: self.left.append((stage, seconds))

    def published(self, outcome: Outcome, seconds: float) -> None:
        assert 0 <= seconds < _SOON_SECONDS
        self.publishes.append(outcome)

    def replayed(self) -> None:
        self.replays += 1

    def store_failed(self, context: Context, stage: str, operation: str, error: Exception) -> None:
        assert isinstance(context, Context)
        self.store_failures.append((stage, operation, type(error).__name__))

    def overloaded(self, tracking_id: str, refusal: NotAccepted, seconds: float) -> None:
        assert 0 < seconds < _SOON_SECONDS
        self.overloads.append((tracking_id, refusal.code.name))

    def answered(self, context: Context, status: int, failure: NotAccepted | None) -> None:
        self.answers.append((context, status, failure))
