"""The facts that stages add to a request's context: client, claim, message, route and reservation.

A fact is looked up by its type. A stage names the types that it ``needs`` and ``provides``; an operator's own stage may
bring types of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date

from pipeline.ids import random_token, uuid_of


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends. ``daily_quota`` counts messages in a UTC day; None means no limit, 0 accepts nothing."""

    name: str
    is_active: bool = True
    daily_quota: int | None = None


@dataclass(slots=True)
class Message:
    """The validated request. ``providers`` are as the caller wrote them; None when they wrote none."""

    to: str
    text: str
    ttl_seconds: int
    providers: tuple[str, ...] | None = None


# Frozen: requests without a choice of their own share one.
@dataclass(frozen=True, slots=True)
class Route:
    """Canonical provider names in the order in which they are to be tried; empty for smart selection."""

    providers: tuple[str, ...] = ()


@dataclass(slots=True)
class Claim:
    """This request's hold on one Idempotency-Key of one client.

    ``token`` names the holder: a step with another token than the record's changes nothing. ``armed`` says that the
    message may be on the queue already, by this request or by an earlier one that this one resumes.
    """

    client: str
    key: str
    fingerprint: bytes
    tracking_id: str
    token: str = field(default_factory=random_token)
    armed: bool = False

    @classmethod
    def on(cls, client: Client, key: str, fingerprint: bytes) -> Claim:
        """The claim of ``client`` on ``key`` for the request with this SHA-256 ``fingerprint`` (32 bytes)."""
        return cls(client.name, key, fingerprint, derive_tracking_id(client.name, key, fingerprint))


@dataclass(slots=True)
class Reservation:
    """One message taken from a client's quota of one UTC day.

    ``limit`` is None where there is none; ``used`` counts this message. ``token`` makes giving it back happen at most
    once. What was taken under a claim is given back with the claim instead.
    """

    client: str
    day: date
    limit: int | None
    used: int
    token: str

    @property
    def remaining(self) -> int:
        """Messages left of the limit; 0 when it was lowered below what is used, and when there is no limit."""
        return max(0, (self.limit or 0) - self.used)


def derive_tracking_id(client: str, key: str, fingerprint: bytes) -> str:
    """The UUID, version 8 (RFC 9562), that all requests of ``client`` with this key and payload share.

    It is a function of its arguments alone, so it is the same even when the store forgot everything.
    """
    digest = hashlib.sha256(b"\0".join((client.encode(), key.encode(), fingerprint))).hexdigest()
    return uuid_of(digest[:32], 8)
