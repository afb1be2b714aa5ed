"""Tracking ids that are derived from client, key and payload."""

from __future__ import annotations

import uuid
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from pipeline.facts import Claim, Client, derive_tracking_id

CLIENTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
FINGERPRINTS = st.binary(min_size=32, max_size=32)
REQUESTS = st.tuples(CLIENTS, KEYS, FINGERPRINTS)


@given(REQUESTS)
def test_it_is_a_uuid_of_version_8(request: tuple[str, str, bytes]) -> None:
    """In its canonical form, with the variant of RFC 9562, and always the same."""
    text = derive_tracking_id(*request)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    client, key, fingerprint = request
    assert Claim.on(Client(client), key, fingerprint).tracking_id == text == derive_tracking_id(*request)


@given(REQUESTS, REQUESTS, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_two_requests_have_one_id_only_when_they_are_the_same(
    one: tuple[str, str, bytes], another: tuple[str, str, bytes], changed: tuple[bool, bool, bool]
) -> None:
    """Another client, another key or another payload is enough, each by itself."""
    parts = [
        theirs if is_changed else ours for ours, theirs, is_changed in zip(one, another, changed, strict=True)
    ]
    client, key, fingerprint = cast("tuple[str, str, bytes]", tuple(parts))
    other = client, key, fingerprint
    assert (derive_tracking_id(*one) == derive_tracking_id(*other)) == (one == other)


@given(CLIENTS, KEYS, FINGERPRINTS, st.integers(1, 10))
def test_characters_do_not_move_between_client_and_key(
    client: str, key: str, fingerprint: bytes, moved: int
) -> None:
    """``ab`` with key ``c`` is not ``a`` with key ``bc``."""
    whole = client + key
    at = moved % len(whole)
    if 0 < at != len(client):
        assert derive_tracking_id(client, key, fingerprint) != derive_tracking_id(
            whole[:at], whole[at:], fingerprint
        )
