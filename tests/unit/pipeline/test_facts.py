"""The facts of a request."""

from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError
from datetime import date

import pytest

from pipeline.facts import Claim, Client, Reservation, Route, derive_tracking_id

FINGERPRINT = bytes(range(32))
DAY = date(2026, 3, 1)


def test_a_derived_tracking_id_never_changes() -> None:
    """Stores and queues hold ids of earlier releases: the same client, key and payload give the same id for ever."""
    assert derive_tracking_id("acme", "key-1", FINGERPRINT) == "71ca7e8a-c2f2-82d0-bb3a-b3b8d48424a8"


def test_a_derived_tracking_id_is_a_uuid_of_version_8() -> None:
    """Version and variant are those of RFC 9562, section 5.8."""
    parsed = uuid.UUID(derive_tracking_id("acme", "key-1", FINGERPRINT))
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


def test_client_key_and_payload_each_make_another_tracking_id() -> None:
    """Two requests share an id only when all three are the same."""
    ids = {
        derive_tracking_id("acme", "key", FINGERPRINT),
        derive_tracking_id("acm", "ekey", FINGERPRINT),
        derive_tracking_id("acme", "key2", FINGERPRINT),
        derive_tracking_id("acme", "key", FINGERPRINT[::-1]),
        derive_tracking_id("other", "key", FINGERPRINT),
    }
    assert len(ids) == 5


def test_two_requests_hold_a_claim_by_different_tokens() -> None:
    """A late step of one request is told from the other's by its token, though both share the tracking_id."""
    first, second = (Claim.on(Client("acme"), "key", FINGERPRINT) for _ in range(2))
    assert first.tracking_id == second.tracking_id == derive_tracking_id("acme", "key", FINGERPRINT)
    assert first.token != second.token
    assert not first.armed


@pytest.mark.parametrize(
    ("limit", "used", "remaining"), [(10, 1, 9), (10, 10, 0), (5, 8, 0), (0, 0, 0), (None, 3, 0)]
)
def test_what_remains_is_never_less_than_nothing(limit: int | None, used: int, remaining: int) -> None:
    """A limit that was lowered below what is used leaves 0."""
    assert Reservation("acme", DAY, limit, used, "token").remaining == remaining


@pytest.mark.parametrize(("fact", "member"), [(Client("acme"), "name"), (Route(), "providers")])
def test_what_requests_share_no_stage_can_change(fact: object, member: str) -> None:
    """An operator's stage that wants another adds it in its place: that changes the route of this request alone."""
    with pytest.raises(FrozenInstanceError):
        setattr(fact, member, "other")
