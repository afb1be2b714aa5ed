"""Idempotency keys, bare and quoted."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.failures import Refused
from pipeline.stages.idempotency import parse_key

VISIBLE = [chr(code) for code in range(0x21, 0x7F)]
KEYS = st.text(st.sampled_from(VISIBLE) | st.sampled_from('"\\'), min_size=1, max_size=255)


def quoted(key: str) -> bytes:
    """A string of RFC 8941, section 3.3.3."""
    return ('"' + re.sub(r'(["\\])', r"\\\1", key) + '"').encode()


@given(KEYS)
def test_a_quoted_key_is_the_key(key: str) -> None:
    """Any visible ASCII can be quoted and is the same key again."""
    assert parse_key(quoted(key)) == key


@given(KEYS)
def test_a_bare_key_is_itself(key: str) -> None:
    """Unless it begins with a quote, in which case it must be a quoted one."""
    if key.startswith('"'):
        return
    assert parse_key(key.encode()) == key == parse_key(quoted(key))


@given(st.binary(max_size=300))
def test_whatever_is_taken_is_a_key(header: bytes) -> None:
    """Any bytes are a key of 1 to 255 visible ASCII characters in one of two forms, or are refused as a bad key."""
    try:
        key = parse_key(header)
    except Refused:
        return
    assert 1 <= len(key) <= 255
    assert set(key) <= set(VISIBLE)
    assert header in {key.encode(), quoted(key)}


@given(KEYS, st.characters(exclude_characters=VISIBLE, max_codepoint=0xFF), st.data())
def test_a_key_with_anything_else_in_it_is_refused(key: str, other: str, data: st.DataObject) -> None:
    """Space, control characters and whatever is not ASCII, at any place, bare or quoted."""
    at = data.draw(st.integers(0, len(key)))
    broken = key[:at] + other + key[at:]
    for header in (broken.encode("latin-1"), b'"' + broken.encode("latin-1") + b'"'):
        with pytest.raises(Refused, match="INVALID_IDEMPOTENCY_KEY"):
            parse_key(header)


@given(st.text(st.sampled_from(VISIBLE), min_size=256, max_size=400))
def test_a_key_that_is_too_long_is_refused(key: str) -> None:
    """In both forms, by the length of the key and not of its quotes."""
    for header in (key.encode(), quoted(key)):
        with pytest.raises(Refused, match="INVALID_IDEMPOTENCY_KEY"):
            parse_key(header)
