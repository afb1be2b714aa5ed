"""How answers lie in Redis."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis import packing
from pipeline import codes
from pipeline.answer import Answer, accepted
from pipeline.codes import Code
from pipeline.failures import Refused
from schemas import load

TRACKING_ID = "3f0f2f7c-9a6b-8d33-8c87-0e4a5a3bb6d1"
LONGEST_IN_ONE_PIECE = 64


def refusal(code: Code, details: dict[str, Any]) -> bytes:
    return Refused(code, details=details).answer(TRACKING_ID, datetime.now(UTC)).pack(TRACKING_ID)


REFUSALS = {
    "unknown": refusal(codes.UNKNOWN_PROVIDER, {"unknown": ["gamma"], "allowed": ["alpha", "beta"]}),
    "disabled": refusal(codes.PROVIDER_DISABLED, {"providers": ["alpha"]}),
    "all disabled": refusal(codes.ALL_PROVIDERS_DISABLED, {"providers": ["alpha", "beta"]}),
    **{
        f"invalid {body}": refusal(
            codes.INVALID_PAYLOAD,
            {"errors": [violation.as_json() for violation in load("request").violations(body)]},
        )
        for body in (
            {"to": "5", "text": "x"},
            {"to": "+123", "text": "x" * 1601},
            {"text": "x"},
            {"to": "+123", "text": "x", "ttl_seconds": "5"},
        )
    },
}


@given(st.binary(max_size=5000), st.uuids().map(str))
def test_what_was_packed_is_found_again(answer: bytes, tracking_id: str) -> None:
    """Byte for byte, whatever an operator's own stage has answered."""
    packed = packing.pack(b"422 text/plain\n" + answer, tracking_id)
    assert packing.unpack(packed, tracking_id) == b"422 text/plain\n" + answer


def test_a_202_lies_as_its_mark() -> None:
    """Nothing is shorter, and nearly every record holds one."""
    mark = accepted(TRACKING_ID).pack(TRACKING_ID)
    assert packing.pack(mark, TRACKING_ID) == mark
    assert packing.unpack(mark, TRACKING_ID) == mark


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_of_one_reason_keeps_its_record_in_one_piece(answer: bytes) -> None:
    """With a value above 64 bytes Redis takes twice the memory for the record."""
    assert len(packing.pack(answer, TRACKING_ID)) <= LONGEST_IN_ONE_PIECE < len(answer)


def test_what_was_stored_before_is_found_as_it_is() -> None:
    """An answer that was not deflated begins with its status."""
    stored = Answer(422, b'{"error_code":"UNKNOWN_PROVIDER"}').pack(TRACKING_ID)
    assert packing.unpack(stored, TRACKING_ID) == stored


def test_the_words_stay_as_they_are() -> None:
    """Records of a day ago were deflated against them."""
    assert (packing._DEFLATED, zlib.crc32(packing._WORDS)) == (b"z1", 2244254160)
