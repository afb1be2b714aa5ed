"""The cases: what is sent to which gateway, and what has to be answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.stages import HOLD, HOLD_HEADER
from tests.bench.wrk import Load
from tests.support.gateways import NUMBER, SEND, key_of
from tests.support.servers import HOST

CLIENTS: dict[str, dict[str, Any]] = {
    "metered": {"daily_quota": 1_000_000_000},
    "spent": {"daily_quota": 0},
}
PROVIDERS: dict[str, dict[str, Any]] = {"alpha": {"aliases": ["a"]}, "off": {"is_active": False}}

TEXT = "Your code is 4711"


@dataclass(frozen=True)
class Setup:
    """How a gateway is set up; cases with the same set-up share one."""

    name: str
    workers: int = 1
    is_embedded: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    def clients(self) -> str:
        """CLIENT_CONFIG."""
        return json.dumps({key_of(name): {"name": name, **entry} for name, entry in CLIENTS.items()})


@dataclass(frozen=True)
class Case:
    """One case. ``status`` is that of each answer; with ``stores`` each is a message of its own on the queue.

    ``first`` is sent once, before everything; ``held`` is written to a connection that stays open during each slice.
    """

    name: str
    meaning: str
    setup: Setup
    load: Load
    status: int
    stores: bool = False
    first: Load | None = None
    held: bytes = b""


def load(client: str = "metered", key: str | None = None, *, fresh_key: bool = False, **body: object) -> Load:
    """A request of ``client``; ``body`` overrides the valid one."""
    headers = {"API-Key": key_of(client), "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    return Load(headers, json.dumps({"to": NUMBER, "text": TEXT, **body}), fresh_key)


def raw(request: Load, *, with_body: bool, **headers: str) -> bytes:
    """The same as bytes, for a connection of our own; without its body it never ends."""
    lines = [
        f"POST {SEND} HTTP/1.1",
        f"Host: {HOST}",
        f"Content-Length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in {**request.headers, **headers}.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + request.body * with_body).encode()


SERVERS = Setup("servers")
OVERLOADED = Setup("overloaded", environ={"MAX_IN_FLIGHT": "1"})
HOLDING = Setup("holding", environ={"PIPELINE": f"auth,idempotency,{HOLD},validation,provider_gate,quota"})
EMBEDDED = Setup("embedded", is_embedded=True)
TWO_WORKERS = Setup("two-workers", workers=2)
CLASSIC = Setup("classic", environ={"RABBITMQ_QUEUE_TYPE": "classic"})
# One record lasts a minute, so that a million of them do not fill the memory of Redis.
LASTING = Setup("lasting", environ={"IDEMPOTENCY_TTL_SECONDS": "60"})

FRESH = load(fresh_key=True)
_HELD = load(key="held")

FRESH_KEY = Case("fresh-key", "a full send: five stages, a key of its own", SERVERS, FRESH, 202, stores=True)
NO_KEY = Case("no-key", "a send without an Idempotency-Key", SERVERS, load(), 202, stores=True)
TWO = Case("two-workers", "fresh-key with --workers 2", TWO_WORKERS, FRESH, 202, stores=True)

CASES = (
    FRESH_KEY,
    NO_KEY,
    Case("replay", "a stored answer again", SERVERS, load(key="seen"), 202, first=load(key="seen")),
    Case("auth", "refused: nobody has the API key", SERVERS, load("nobody"), 401),
    Case(
        "key-reused",
        "refused: the key had another payload",
        SERVERS,
        load(key="used", text="Another text"),
        422,
        first=load(key="used"),
    ),
    Case("validation", "refused: not a number", SERVERS, load(to="4155552671"), 422),
    Case("provider-gate", "refused: the provider is out of use", SERVERS, load(providers=["off"]), 409),
    Case("quota", "refused: the quota is used up", SERVERS, load("spent"), 429),
    Case(
        "key-in-progress",
        "refused: the key is at work",
        HOLDING,
        _HELD,
        409,
        held=raw(_HELD, with_body=True, **{HOLD_HEADER: "1"}),
    ),
    Case(
        "overload",
        "refused: MAX_IN_FLIGHT=1, and one is in flight",
        OVERLOADED,
        FRESH,
        503,
        held=raw(load(), with_body=False),
    ),
    Case("embedded", "fresh-key on one SQLite file", EMBEDDED, FRESH, 202, stores=True),
    TWO,
)
BROKER_CASES = (
    Case("quorum-queue", "fresh-key onto a quorum queue", SERVERS, FRESH, 202, stores=True),
    Case("classic-queue", "fresh-key onto a classic queue", CLASSIC, FRESH, 202, stores=True),
)
MEMORY = Case("memory", "fresh-key, for long", LASTING, FRESH, 202, stores=True)
