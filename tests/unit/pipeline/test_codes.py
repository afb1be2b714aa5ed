"""The error codes of the contract."""

from __future__ import annotations

from pipeline import codes
from pipeline.codes import Code
from tests.support.contract import STATUS


def test_the_codes_are_those_of_the_contract() -> None:
    """Every code has the status that the contract gives it, and there is none besides."""
    assert {code.name: code.status for code in codes.ALL} == STATUS


def test_a_code_is_bound_to_its_own_name() -> None:
    """Whoever writes ``codes.NOT_FOUND`` gets NOT_FOUND."""
    assert all(getattr(codes, code.name) is code for code in codes.ALL)


def test_only_answers_to_the_payload_are_stored_for_replay() -> None:
    """422 of validation and gate are verdicts; 401, 408, 409, 413, 429, 5xx and the key's own codes never are."""
    assert {code.name for code in codes.ALL if code.is_verdict} == {
        "INVALID_PAYLOAD",
        "UNKNOWN_PROVIDER",
    }


def test_every_message_is_a_sentence() -> None:
    """A message is written for people: it begins with a capital and ends with a full stop."""
    assert all(code.message[0].isupper() and code.message.endswith(".") for code in codes.ALL)


def test_an_operators_code_is_no_verdict_unless_it_says_so() -> None:
    """What is stored for replay is stored on purpose."""
    assert Code("BLOCKED", 403, "No.").is_verdict is False
