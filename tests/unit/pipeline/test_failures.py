"""Refusals and unknown outcomes, and the one form in which they are answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pipeline import codes
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from schemas import load
from tests.support.asgi import NOON

TRACKING_ID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("code", codes.ALL, ids=lambda code: code.name)
def test_every_code_is_answered_in_the_form_of_the_contract(code: codes.Code) -> None:
    """The body is an ErrorResponse by its schema, and the status is the code's."""
    answer = Refused(code).answer(TRACKING_ID, NOON)
    document = json.loads(answer.body)
    assert load("error").violations(document) == []
    assert answer.status == code.status
    assert answer.content_type == b"application/json"
    assert document == {
        "error_code": code.name,
        "message": code.message,
        "details": None,
        "tracking_id": TRACKING_ID,
        "timestamp": "2026-03-01T12:00:00.000005Z",
    }


def test_details_and_a_message_of_its_own_go_into_the_body() -> None:
    """A refusal may say more than its code does."""
    refused = Refused(codes.INVALID_PAYLOAD, "Words.", details={"errors": []})
    document = json.loads(refused.answer(TRACKING_ID, NOON).body)
    assert (document["message"], document["details"]) == ("Words.", {"errors": []})


@pytest.mark.parametrize(("seconds", "header"), [(30, b"30"), (1, b"1"), (0, b"1"), (-5, b"1")])
def test_retry_after_is_at_least_a_second(seconds: int, header: bytes) -> None:
    """A client that is told to wait is never told to wait no time at all."""
    answer = Refused(codes.SERVICE_UNAVAILABLE, retry_after=seconds).answer(TRACKING_ID, NOON)
    assert answer.headers == ((b"retry-after", header),)


def test_headers_are_kept_beside_retry_after() -> None:
    """A refusal's own headers and Retry-After go together."""
    refused = Refused(codes.UNAUTHORIZED, headers=((b"www-authenticate", b"x"),), retry_after=2)
    assert refused.answer(TRACKING_ID, NOON).headers == ((b"www-authenticate", b"x"), (b"retry-after", b"2"))


def test_an_answer_is_rendered_once() -> None:
    """What was stored for replay is what is sent, whenever that is."""
    refused = Refused(codes.INVALID_PAYLOAD)
    stored = refused.answer(TRACKING_ID, NOON)
    assert refused.answer(TRACKING_ID, datetime.now(UTC)) is stored


def test_an_unknown_outcome_is_no_refusal() -> None:
    """The two are kept apart by type, and an unknown outcome asks for a retry."""
    unknown = OutcomeUnknown()
    assert isinstance(unknown, NotAccepted)
    assert not isinstance(unknown, Refused)
    assert unknown.code is codes.OUTCOME_UNKNOWN
    assert (b"retry-after", b"1") in unknown.answer(TRACKING_ID, NOON).headers
