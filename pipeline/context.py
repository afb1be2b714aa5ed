"""The context of one request: its tracking_id, its payload, its deadline, and the facts that stages add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from pipeline import payload
from pipeline.failures import Refused
from pipeline.ids import random_uuid
from pipeline.payload import Payload
from pipeline.timing.deadline import Deadline, Deadlines
from pipeline.timing.stopwatch import Stopwatch

_KEY = "sms.context"

Fact = TypeVar("Fact")


class Context:
    """What is known of one request. It lives in the ASGI scope, from the boundary to the answer.

    ``is_send`` tells a send from the other paths, ``is_reading`` that its body is still arriving, ``may_be_published``
    that its message may be on the queue, by this request or by an earlier one under its key, and ``is_published`` that
    the outbox has confirmed it. ``headers`` go into the answer whatever it will be. ``api_key_hint`` is the part of the
    API key that logs may show, ``deadline`` bounds the request's time, ``deferred`` is a refusal that waits for the
    claim, and ``stopwatch`` knows which stage it is in.
    """

    __slots__ = (
        *("_facts", "_fields", "_method", "_path", "_payload", "_raw_headers", "_tracking_id"),
        *("api_key_hint", "deadline", "deferred", "headers", "is_published", "is_reading", "is_send"),
        *("may_be_published", "stopwatch"),
    )

    def __init__(self, scope: Scope, deadlines: Deadlines, *, is_send: bool = False) -> None:
        # Not the scope itself, which holds this context: a reference cycle would wait for the garbage collector.
        self._method: str = scope["method"]
        self._path: str = scope["path"]
        self._raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._fields: Mapping[bytes, bytes] | None = None
        self._facts: dict[type, Any] = {}
        self._payload: Payload | None = None
        self._tracking_id: str | None = None
        self.is_send = is_send
        self.is_reading = self.may_be_published = self.is_published = False
        self.api_key_hint: str | None = None
        self.deferred: Refused | None = None
        self.headers: dict[bytes, bytes] = {}
        self.deadline = Deadline(deadlines)
        self.stopwatch = Stopwatch()
        scope[_KEY] = self

    @staticmethod
    def of(scope: Scope) -> Context:
        """The context of the request that this scope belongs to."""
        context: Context = scope[_KEY]
        return context

    @property
    def tracking_id(self) -> str:
        """The request's id: drawn at random when it is first asked for, unless a stage has set it."""
        if self._tracking_id is None:
            self._tracking_id = random_uuid()
        return self._tracking_id

    @tracking_id.setter
    def tracking_id(self, tracking_id: str) -> None:
        """Give the request an id that is not random."""
        self._tracking_id = tracking_id

    def __getitem__(self, fact: type[Fact]) -> Fact:
        found: Fact = self._facts[fact]
        return found

    def get(self, fact: type[Fact]) -> Fact | None:
        """The fact of this type, or None while no stage has added it."""
        found: Fact | None = self._facts.get(fact)
        return found

    def add(self, fact: Any) -> None:
        """Add a fact under its own type, in place of an earlier one."""
        self._facts[type(fact)] = fact

    def defer(self, refusal: Refused) -> None:
        """Leave a refusal to the stage that finds the claim: an earlier request may have been accepted under it."""
        stage = self.stopwatch.deepest
        refusal.stage = stage.stage if stage is not None else None
        # Its frames hold this context, which holds it: a reference cycle would wait for the garbage collector.
        self.deferred = refusal.with_traceback(None)

    def raise_deferred(self) -> None:
        """Raise the refusal that was deferred, if there is one, unless the message may be on the queue already."""
        refusal, self.deferred = self.deferred, None
        if refusal is not None and not self.may_be_published:
            try:
                raise refusal
            finally:
                del refusal

    def header(self, name: bytes) -> bytes | None:
        """The value of a request header, by its lower-case name; several are joined by ``, `` (RFC 9110, 5.3)."""
        if self._fields is None:
            self._fields = _fields(self._raw_headers)
        return self._fields.get(name)

    def answer_headers(self) -> list[tuple[bytes, bytes]]:
        """What goes into the head of the answer whatever it is."""
        return [(b"x-tracking-id", self.tracking_id.encode()), *self.headers.items()]

    async def payload(self, receive: Receive) -> Payload:
        """The request's body, read at the first call.

        Raises what ``pipeline.payload.read`` raises. From here on the request has ``deadline.REQUEST_SECONDS``.
        """
        if self._payload is None:
            self.is_reading = True
            raw = await payload.read(self.header, receive)
            self.is_reading = False
            self.deadline.body_is_there()
            self._payload = payload.parse(raw)
        return self._payload

    def fingerprint(self, body: Payload) -> bytes:
        """SHA-256 over method, route and canonical body: what makes two requests under one key the same."""
        return body.fingerprint(self._method, self._path)


def _fields(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    # The parser leaves the white space around a value, which is no part of it (RFC 9110, 5.5).
    fields = {name: value.strip(b" \t") for name, value in headers}
    if len(fields) == len(headers):
        return fields
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value.strip(b" \t"))
    return {name: b", ".join(several) for name, several in values.items()}
