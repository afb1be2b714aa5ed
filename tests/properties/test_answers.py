"""Answers in the store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.answer import Answer, accepted

TRACKING_IDS = st.uuids().map(str)
CONTENT_TYPES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.encode)


@given(st.integers(100, 599), st.binary(max_size=200), CONTENT_TYPES, TRACKING_IDS)
def test_unpacking_undoes_packing(status: int, body: bytes, content_type: bytes, tracking_id: str) -> None:
    """Whatever status, body and content type an answer has, it comes back as it was."""
    answer = Answer(status, body, content_type)
    assert Answer.unpack(answer.pack(tracking_id), tracking_id) == answer


@given(TRACKING_IDS, TRACKING_IDS)
def test_a_202_comes_back_under_its_own_tracking_id(one: str, other: str) -> None:
    """The short form is for the plain answer to this very request; another's is kept in full."""
    for tracking_id in (one, other):
        assert Answer.unpack(accepted(one).pack(tracking_id), tracking_id) == accepted(one)
