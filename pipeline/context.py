"""The context of one request: its tracking_id, its payload, its deadline, and the facts that stages add."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, TypeVar, cast

from starlette.types import Receive, Scope

from pipeline import payload
from pipeline.payload import Payload

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
REQUEST_SECONDS = 10.0
"""How long a request may take from its body on; shorter than a claim's lease, so that no late step finds it resumed."""

_KEY = "sms.context"

Fact = TypeVar("Fact")


class Context:
    """What is known of one request. It lives in the ASGI scope, from the boundary to the answer.

    ``stage`` is the one that works at present, ``own_since`` the start of its own time, ``headers`` go into the answer
    whatever it will be. ``is_send`` tells a send from the other paths, ``is_reading`` that its body is still arriving,
    ``may_be_published`` that its message may be on the queue, by this request or by an earlier one under its key, and
    ``is_published`` that the outbox has confirmed it. ``api_key_hint`` is the part of the API key that logs may show,
    ``timer`` the request's deadline.
    """

    __slots__ = (
        "_facts",
        "_payload",
        "_scope",
        "api_key_hint",
        "arrived",
        "headers",
        "is_published",
        "is_reading",
        "is_send",
        "may_be_published",
        "own_since",
        "stage",
        "timer",
        "tracking_id",
    )

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._facts: dict[type, object] = {}
        self._payload: Payload | None = None
        self.tracking_id = str(uuid.uuid4())
        self.arrived = time.perf_counter()
        self.own_since = self.arrived
        self.stage: str | None = None
        self.headers: dict[bytes, bytes] = {}
        self.timer = asyncio.timeout(BODY_SECONDS)
        self.is_published = False
        self.may_be_published = False
        self.is_reading = False
        self.is_send = False
        self.api_key_hint: str | None = None
        scope[_KEY] = self

    @classmethod
    def of(cls, scope: Scope) -> Context:
        """The context of the request that this scope belongs to."""
        return cast(Context, scope[_KEY])

    def __getitem__(self, fact: type[Fact]) -> Fact:
        return cast(Fact, self._facts[fact])

    def get(self, fact: type[Fact]) -> Fact | None:
        """The fact of this type, or None while no stage has added it."""
        return cast("Fact | None", self._facts.get(fact))

    def add(self, fact: Any) -> None:
        """Add a fact under its own type, in place of an earlier one."""
        self._facts[type(fact)] = fact

    def header(self, name: bytes) -> bytes | None:
        """The value of a request header, by its lower-case name; several are joined by ``, `` (RFC 9110, 5.3)."""
        # The parser leaves the white space around a value, which is no part of it (RFC 9110, 5.5).
        values = [value.strip(b" \t") for key, value in self._scope["headers"] if key == name]
        return b", ".join(values) if values else None

    async def payload(self, receive: Receive) -> Payload:
        """The request's body, read at the first call.

        Raises what ``pipeline.payload.read`` raises. From here on the request has ``REQUEST_SECONDS``.
        """
        if self._payload is None:
            self.is_reading = True
            raw = await payload.read(self._scope, receive)
            self.is_reading = False
            self.timer.reschedule(asyncio.get_running_loop().time() + REQUEST_SECONDS)
            self._payload = payload.parse(raw)
        return self._payload

    def fingerprint(self, body: Payload) -> bytes:
        """SHA-256 over method, route and canonical body: what makes two requests under one key the same."""
        return body.fingerprint(self._scope)

    def hurry(self, seconds: float) -> None:
        """Give a body that is still arriving this many seconds at the most."""
        if self.is_reading and not self.timer.expired():
            latest = asyncio.get_running_loop().time() + seconds
            self.timer.reschedule(min(latest, self.timer.when() or latest))
