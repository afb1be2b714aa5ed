"""Who takes part: clients, providers, gateway processes, and requests with what became of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from gateway.retries import RetryingStore
from pipeline.answer import Answer
from pipeline.context import Context
from pipeline.facts import Client
from pipeline.providers import Provider, Providers
from tests.support.asgi import Exchange

KEYS = ("key", "other")
LIMITS = {"free": None, "two a day": 2}
BODIES = ("hello by alpha", "hello", "hello by alpha")
ORDERS = {
    "default": ("auth", "idempotency", "validation", "provider_gate", "quota"),
    "the gate before the claim": ("auth", "validation", "provider_gate", "idempotency", "quota"),
    "quota before the gate": ("auth", "idempotency", "validation", "quota", "provider_gate"),
    "no gate": ("auth", "idempotency", "validation", "quota"),
    "no quota": ("auth", "idempotency", "validation", "provider_gate"),
}

DOCUMENTS: dict[str, dict[str, Any]] = {
    "hello": {"to": "+14155552671", "text": "Hello"},
    "hello by alpha": {"to": "+14155552671", "text": "Hello", "providers": ["alpha"]},
}


class Switchboard(Providers):
    """The provider ``alpha``, which is operational or not, and another one which always is."""

    def __init__(self) -> None:
        self.is_on = True
        self.switch(is_on=True)

    def switch(self, *, is_on: bool) -> None:
        self.is_on = is_on
        super().__init__([Provider("alpha", is_operational=is_on), Provider("beta")])


class Senders:
    """The clients, each by its name as API key."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._by_name = {client.name: client for client in clients}

    def authenticate(self, api_key: bytes) -> Client | None:
        return self._by_name.get(api_key.decode())

    def named(self, name: str) -> Client | None:
        return self._by_name.get(name)


@dataclass(eq=False)
class Process:
    """One gateway process."""

    number: int
    store: RetryingStore = field(init=False)
    app: ASGIApp = field(init=False)
    is_dead: bool = False
    owes: set[str] = field(default_factory=set)
    """What it has tried to give back, and does not know to be given back."""

    tracking_id = ""

    def __repr__(self) -> str:
        return f"process {self.number}"


@dataclass(eq=False)
class Attempt:
    """One request, and what became of it."""

    number: int
    process: Process
    client: Client
    key: str | None
    body: str
    exchange: Exchange
    task: asyncio.Task[None] = field(init=False)
    resumed: bool = False
    """It was told that an earlier request may have published."""
    published: str = ""
    """``confirmed``, ``refused`` or ``unknown``; nothing while it has no reply, and when it never tried."""
    was_failed: bool = False
    """A call failed it, or its deadline passed."""
    may_have_taken: bool = False
    last_call: str = ""
    is_judged: bool = False

    def __repr__(self) -> str:
        return f"request {self.number} in {self.process!r}"

    @property
    def is_dead(self) -> bool:
        return self.process.is_dead

    @property
    def context(self) -> Context:
        return Context.of(self.exchange.scope)

    @property
    def tracking_id(self) -> str:
        return self.context.tracking_id

    @property
    def is_answered(self) -> bool:
        return self.task.done() and not self.is_dead

    @property
    def answer(self) -> Answer:
        """The answer as it is compared: without headers."""
        return Answer(
            self.exchange.status, self.exchange.body, self.exchange.headers["content-type"].encode()
        )

    @property
    def is_replay(self) -> bool:
        return "idempotent-replayed" in self.exchange.headers

    @property
    def outcome(self) -> str:
        """``ACCEPTED``, or the error code."""
        return "ACCEPTED" if self.exchange.status == 202 else str(self.exchange.json["error_code"])

    def may_be_stored(self) -> bool:
        return self.published in {"confirmed", "unknown"}


def expected_id(attempt: Attempt) -> str:
    """The derived tracking_id, as the guarantees define it and not as the product computes it."""
    assert attempt.key is not None
    canonical = json.dumps(DOCUMENTS[attempt.body], sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(b"POST /api/v1/sms/send\n" + canonical.encode()).digest()
    parts = (attempt.client.name.encode(), attempt.key.encode(), fingerprint)
    octets = bytearray(hashlib.sha256(b"\0".join(parts)).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(octets)))
