"""The judge itself: what it must notice, and what it must excuse, each on a run of a message or two."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults import charges, oracle, private
from tests.faults.answers import STATUS
from tests.faults.ledger import Answer, Attempt, End, Kind, Mark, Message
from tests.faults.load import KEY_TAIL, METERED, TEXT
from tests.faults.oracle import Run, Verdict
from tests.faults.setups import PLAIN, Setup

ID = "11111111-1111-4111-8111-111111111111"
OTHER_ID = "22222222-2222-4222-8222-222222222222"
TIME = "2026-03-01T12:00:00.000005Z"
# Attempts are so many seconds after the machine's start: on the day of that, far from its midnight or not.
DAY = charges.day_of(10.0)


def answered(
    code: str = "ACCEPTED", tracking_id: str = ID, began: float = 10.0, *, replay: bool = False
) -> Attempt:
    headers = {"content-type": "application/json", "x-tracking-id": tracking_id, "retry-after": "1"}
    if replay:
        headers["idempotent-replayed"] = "true"
    if code == "ACCEPTED":
        status = 202
        body: dict[str, Any] = {
            "success": True,
            "message": "Request accepted for processing.",
            "tracking_id": tracking_id,
        }
    else:
        status = STATUS.get(code, 500)
        body = {
            "error_code": code,
            "message": "m",
            "details": None,
            "tracking_id": tracking_id,
            "timestamp": TIME,
        }
    return Attempt(0, began, began + 1, End.ANSWERED, Answer(status, headers, json.dumps(body).encode()))


def unanswered(end: End = End.LOST, began: float = 10.0) -> Attempt:
    return Attempt(0, began, began + 1, end)


def message(*attempts: Attempt, key: str | None = None, gives_up: bool = False) -> Message:
    body = json.dumps({"to": "+989120000007", "text": TEXT}).encode()
    return Message(7, METERED, METERED + KEY_TAIL, key, body, None, gives_up, list(attempts))


def envelope(tracking_id: str = ID) -> dict[str, Any]:
    return {
        "tracking_id": tracking_id,
        "client": METERED,
        "to": "+989120000007",
        "text": TEXT,
        "ttl_seconds": 3600,
        "expires_at": TIME,
        "providers_original": None,
        "providers_effective": [],
        "config_fingerprint": {"clients": "0" * 64, "providers": "0" * 64},
        "created_at": TIME,
    }


def judged(
    sent: Message, queue: list[dict[str, Any]], used: int, *marks: Mark, setup: Setup = PLAIN
) -> Verdict:
    return oracle.judge(Run([sent], marks, queue, {(METERED, DAY): used}, setup))


DIED = Mark(Kind.DIED, 10.5, 12.0)
BROKER = Mark(Kind.BROKER, 10.5, 12.0)
FLUSHED = Mark(Kind.FLUSHED, 10.5, 10.6)
FLUSHED_LATER = Mark(Kind.FLUSHED, 20.0, 20.1)
FLUSHED_EARLIER = Mark(Kind.FLUSHED, 5.0, 5.1)
STOPPED = Mark(Kind.STOPPED, 10.5, 12.0)
SWITCHED_OFF = Mark(Kind.SWITCHED_OFF, 10.5, 30.0)
ROLLED_BACK = Mark(Kind.ROLLED_BACK, 10.5, 12.5)


@pytest.mark.parametrize(
    ("sent", "queue", "used", "marks"),
    [
        (message(answered()), [envelope()], 1, []),
        (message(answered("SERVICE_UNAVAILABLE", OTHER_ID), answered()), [envelope()], 1, []),
        (message(answered("OUTCOME_UNKNOWN")), [], 1, []),
        (message(answered("OUTCOME_UNKNOWN")), [envelope()], 1, []),
        (message(answered("OUTCOME_UNKNOWN"), answered(), key="k"), [envelope(), envelope()], 1, []),
        (message(answered(), answered(replay=True), key="k"), [envelope()], 1, []),
        (message(answered("SERVICE_UNAVAILABLE"), gives_up=True), [], 0, []),
        (
            message(answered("OUTCOME_UNKNOWN"), answered("SERVICE_UNAVAILABLE"), key="k", gives_up=True),
            [],
            1,
            [],
        ),
        (message(unanswered()), [], 0, [DIED]),
        (message(unanswered()), [], 1, [DIED]),
        (message(unanswered()), [envelope()], 1, [DIED]),
        (message(unanswered(End.ABANDONED)), [envelope()], 1, []),
        (message(unanswered(End.ABANDONED)), [], 1, [BROKER]),
        (message(unanswered(End.CUT_SHORT), answered()), [envelope()], 1, []),
        (message(answered()), [envelope()], 0, [FLUSHED_LATER]),
        (message(answered()), [envelope()], 1, [FLUSHED_EARLIER]),
        (message(answered()), [envelope()], 0, [FLUSHED]),
        (message(answered()), [envelope()], 1, [FLUSHED]),
        (message(answered()), [envelope()], 0, [ROLLED_BACK]),
        (
            message(answered("SERVICE_UNAVAILABLE", OTHER_ID), answered(began=20)),
            [envelope()],
            2,
            [ROLLED_BACK],
        ),
        # More copies than one, each with its reason.
        (
            message(answered("OUTCOME_UNKNOWN"), unanswered(), answered(), answered(replay=True), key="k"),
            [envelope(), envelope(), envelope()],
            1,
            [DIED],
        ),
        (message(answered(), answered(began=10.7), key="k"), [envelope(), envelope()], 1, [FLUSHED]),
        (message(answered(), answered(began=13), key="k"), [envelope(), envelope()], 1, [ROLLED_BACK]),
    ],
)
def test_what_is_in_order(sent: Message, queue: list[dict[str, Any]], used: int, marks: list[Mark]) -> None:
    assert judged(sent, queue, used, *marks).violations == []


@pytest.mark.parametrize(
    ("sent", "queue", "used", "marks", "complaint"),
    [
        (message(answered()), [], 1, [], "accepted, and not on the queue"),
        (message(answered(), key="k"), [envelope(OTHER_ID)], 1, [], "accepted, and not on the queue"),
        (message(answered(), key="k"), [envelope(), envelope(OTHER_ID)], 1, [], "under 2 tracking ids"),
        (message(answered()), [envelope(), envelope(OTHER_ID)], 1, [], "under 2 tracking ids"),
        (
            message(answered()),
            [envelope(), envelope()],
            1,
            [],
            "2 times on the queue, and its answers account for 1",
        ),
        (message(answered(), answered(), key="k"), [envelope(), envelope()], 1, [], "2 times on the queue"),
        (message(*[answered()] * 500, key="k"), [envelope()] * 500, 1, [], "account for 1"),
        (message(*[answered()] * 500, key="k"), [envelope()] * 3, 1, [FLUSHED], "account for 2"),
        (message(answered(), answered(), key="k"), [envelope()] * 2, 1, [FLUSHED_EARLIER], "account for 1"),
        (message(answered(), answered(), key="k"), [envelope()] * 2, 0, [FLUSHED_LATER], "account for 1"),
        (message(answered(), answered(), key="k"), [envelope()] * 2, 1, [DIED, BROKER], "account for 1"),
        (
            message(unanswered(), answered(), answered(), key="k"),
            [envelope()] * 3,
            1,
            [DIED],
            "3 times on the queue, and its answers account for 2",
        ),
        (message(answered(), answered(began=26), key="k"), [envelope(), envelope()], 1, [], "account for 1"),
        (message(answered("TOO_MANY_REQUESTS")), [], 0, [], "to a message that nothing is wrong with"),
        (message(answered("IDEMPOTENCY_KEY_REUSED"), key="k"), [], 0, [], "nothing is wrong with"),
        (
            message(answered("PROVIDER_DISABLED"), answered(), key="k"),
            [envelope()],
            1,
            [],
            "nothing is wrong",
        ),
        (
            message(unanswered(), key="k", gives_up=True),
            [],
            0,
            [Mark(Kind.DIED, 10.5, 12.0, 1)],
            "LOST after",
        ),
        (message(unanswered()), [envelope()], 1, [STOPPED], "SIGTERM cut off its answer"),
        (
            message(unanswered(), answered("PROVIDER_DISABLED", OTHER_ID), key="k", gives_up=True),
            [envelope()],
            1,
            [DIED, SWITCHED_OFF],
            "on the queue, and called refused in the end",
        ),
        (
            message(answered("SERVICE_UNAVAILABLE"), answered("SERVICE_UNAVAILABLE", replay=True), key="k"),
            [],
            0,
            [],
            "a replay of what is of the moment",
        ),
        (message(answered("TOO_MANY_REQUESTS")), [envelope()], 1, [], "refused, and on the queue"),
        (message(answered("TOO_MANY_REQUESTS"), key="k"), [envelope()], 1, [], "refused every time, and on"),
        (
            message(answered("SERVICE_UNAVAILABLE"), answered(tracking_id=OTHER_ID)),
            [envelope()],
            1,
            [],
            "refused, and",
        ),
        (message(answered("SERVICE_UNAVAILABLE")), [], 0, [], "was not settled"),
        (message(answered("OUTCOME_UNKNOWN"), key="k"), [], 1, [], "was not settled"),
        (
            message(answered("OUTCOME_UNKNOWN"), answered("SERVICE_UNAVAILABLE"), key="k", gives_up=True),
            [envelope()],
            0,
            [],
            "0 messages counted, expected 1",
        ),
        (message(answered()), [envelope()], 2, [], "2 messages counted, expected 1"),
        (message(answered()), [envelope()], 0, [], "0 messages counted, expected 1"),
        (message(answered("OUTCOME_UNKNOWN")), [], 0, [], "0 messages counted, expected 1"),
        (message(answered("TOO_MANY_REQUESTS")), [], 1, [], "1 messages counted, expected 0"),
        (message(answered()), [envelope()], 1, [FLUSHED_LATER], "1 messages counted, expected 0"),
        (message(answered()), [envelope()], 0, [FLUSHED_EARLIER], "0 messages counted, expected 1"),
        (message(unanswered()), [], 0, [], "LOST after 1.0 s"),
        (message(unanswered(End.ABANDONED)), [], 1, [], "1 messages counted, expected 0"),
        (message(unanswered(End.ABANDONED)), [envelope()], 0, [BROKER], "0 messages counted, expected 1"),
        (message(answered("INTERNAL_ERROR")), [], 0, [], "not in the contract's table"),
        (
            message(answered("SERVICE_UNAVAILABLE"), answered(replay=True), key="k"),
            [envelope()],
            1,
            [],
            "a replay of",
        ),
        (
            message(answered(), answered(tracking_id=OTHER_ID), key="k"),
            [envelope()],
            1,
            [],
            "several tracking ids",
        ),
    ],
)
def test_what_breaks_a_promise(
    sent: Message, queue: list[dict[str, Any]], used: int, marks: list[Mark], complaint: str
) -> None:
    assert complaint in "\n".join(judged(sent, queue, used, *marks).violations)


def test_a_message_that_nobody_sent_is_noticed() -> None:
    verdict = oracle.judge(Run([], [], [envelope()], {}))
    assert verdict.violations == ["message 7: on the queue, and never sent"]


def test_another_message_in_the_envelope_is_noticed() -> None:
    verdict = judged(message(answered()), [{**envelope(), "text": "Another"}], 1)
    assert "another message stands in its envelope" in verdict.violations[0]


def test_an_envelope_that_breaks_its_schema_is_noticed() -> None:
    verdict = judged(message(answered()), [{**envelope(), "surplus": 1}], 1)
    assert "an envelope breaks its schema" in verdict.violations[0]


@pytest.mark.parametrize("text", [KEY_TAIL, TEXT, "+989120000007", "989120000007", "an-idempotency-key-7"])
def test_private_data_is_found(text: str) -> None:
    assert private.found_in(f"before {text} after".encode(), "the log") != []


@pytest.mark.parametrize(
    "text",
    [
        '"to":"+98912***0007"',
        '"latency_ms":0.989120000007',
        "11111111-1111-4111-8111-989120000007",
        "98912000000789120",
    ],
)
def test_what_only_looks_like_a_number_is_not_private(text: str) -> None:
    assert private.found_in(text.encode(), "the log") == []


def test_a_number_and_a_text_may_stand_in_an_envelope_and_a_key_may_not() -> None:
    body = json.dumps(envelope())
    assert private.found_in(body.encode(), "an envelope", private.SECRET) == []
    assert private.found_in(f"{body}{KEY_TAIL}".encode(), "an envelope", private.SECRET) != []
