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


@given(KEYS.filter(lambda key: not key.startswith('"')))
def test_a_bare_key_is_itself(key: str) -> None:
    """Unless it begins with a quote, in which case it must be a quoted one."""
    assert parse_key(key.encode()) == key == parse_key(quoted(key))


# Nearly keys: of quotes, backslashes and little else, with a byte here and there that no key may hold.
HEADERS = st.binary(max_size=300) | st.lists(st.sampled_from([*b'"\\"\\ab', 0x20, 0x7F]), max_size=12).map(
    bytes
)
FORM = re.compile(rb'"(?:[^"\\]|\\["\\])+"|(?!")[!-~]+')


@given(HEADERS)
def test_what_is_a_key_is_taken_and_nothing_else(header: bytes) -> None:
    """Any bytes are a key of 1 to 255 visible ASCII characters in one of two forms, or are refused as a bad key."""
    is_visible = all(0x21 <= byte <= 0x7E for byte in header)
    if is_visible and len(header) <= 255 and FORM.fullmatch(header):
        key = parse_key(header)
        assert header in {key.encode(), quoted(key)}
    else:
        with pytest.raises(Refused, match="INVALID_IDEMPOTENCY_KEY"):
            parse_key(header)


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
