"""The keys in Redis: readable, apart from each other, and all of one client in one hash slot."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from datetime import date

import pytest
from redis.crc import key_slot

from gateway.redis.keys import Keys

DAY = date(2026, 2, 3)
KEYS = Keys("quota")
NAMES = ["x", "acme logistics", "{x}", "}{", "100%", "%7Bx%7D", "نام"]


def all_of(client: str) -> list[bytes]:
    return [
        KEYS.claim(client, "order-1"),
        KEYS.counters(client),
        KEYS.counter(client, DAY),
        KEYS.reservation(client, "token"),
    ]


def test_keys_are_named_as_documented() -> None:
    """An operator finds them by client and day."""
    digest = urlsafe_b64encode(hashlib.sha256(b"order-1").digest()[:16]).rstrip(b"=")
    assert all_of("My {odd} 100% client") == [
        b"claim:{My%20%7Bodd%7D%20100%25%20client}:" + digest,
        b"quota:{My%20%7Bodd%7D%20100%25%20client}:",
        b"quota:{My%20%7Bodd%7D%20100%25%20client}:2026-02-03",
        b"quota:{My%20%7Bodd%7D%20100%25%20client}:r:token",
    ]


@pytest.mark.parametrize("client", NAMES)
def test_all_keys_of_a_client_lie_in_one_slot(client: str) -> None:
    """So one script may touch them all, whatever characters the name has."""
    assert len({key_slot(key) for key in all_of(client)}) == 1
    assert {re.findall(rb"[{}]", key)[:2] == [b"{", b"}"] for key in all_of(client)} == {True}


def test_no_two_clients_and_no_two_keys_share_a_record() -> None:
    """However their names are written."""
    found = [key for client in NAMES for key in all_of(client)]
    found += [KEYS.claim("x", key) for key in ("order-2", "ORDER-1", "order-1 ", "نام")]
    assert len(set(found)) == len(found)


def test_an_idempotency_key_is_not_kept() -> None:
    """Its digest is, of which 128 bits are enough; in characters that a person can type."""
    key = KEYS.claim("x", "s3cr3t order")
    assert b"s3cr3t" not in key
    assert re.fullmatch(rb"claim:\{x\}:[A-Za-z0-9_-]{22}", key)


def test_quota_prefixes_keep_counters_apart() -> None:
    """And one with a brace would shadow the client's hash tag."""
    assert Keys("sms:quota").counter("x", DAY) == b"sms:quota:{x}:2026-02-03"
    for prefix in ("{", "a}", "{a}"):
        with pytest.raises(ValueError, match="must not contain"):
            Keys(prefix)
