"""What the judge excuses in each setup, by which name, and that it excuses no more than that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults import charges, oracle
from tests.faults.ledger import Attempt, Kind, Mark, Message
from tests.faults.load import METERED
from tests.faults.oracle import Run
from tests.faults.setups import PLAIN, Setup, named
from tests.faults.test_oracle import DAY, ID, OTHER_ID, answered, envelope, judged, message, unanswered

BROKER = Mark(Kind.BROKER, 10.5, 12.0)
CLOCK = Mark(Kind.CLOCK, 10.5, 10.6)
ALLOW, SPOOL, EMBEDDED, MIXED = map(named, ("allow", "spool", "embedded", "mixed"))
KEPT = "PROVIDER_DISABLED"
REFUSED = answered("SERVICE_UNAVAILABLE", OTHER_ID)


def quickly(attempt: Attempt) -> Attempt:
    """In less time than a spool waits for RabbitMQ."""
    attempt.ended = attempt.began + 0.6
    return attempt


@pytest.mark.parametrize(
    ("setup", "sent", "copies", "used", "mark", "name"),
    [
        (SPOOL, message(quickly(answered())), 2, 1, BROKER, "spooled"),
        (EMBEDDED, message(REFUSED, answered(began=20)), 1, 2, CLOCK, "clock"),
        (PLAIN, message(unanswered()), 0, 1, Mark(Kind.DIED, 10.5, 12.0, 0), "died"),
    ],
)
def test_an_excuse_has_a_name_and_holds_where_it_belongs(
    setup: Setup, sent: Message, copies: int, used: int, mark: Mark, name: str
) -> None:
    verdict = judged(sent, [envelope()] * copies, used, mark, setup=setup)
    assert verdict.violations == []
    assert name in " ".join([*verdict.excused_charges, *verdict.excused_copies])
    assert judged(sent, [envelope()] * copies, used, setup=setup).violations != []
    if setup != PLAIN:
        assert judged(sent, [envelope()] * copies, used, mark).violations != []


def test_an_answer_that_was_not_stored_says_so_in_the_log() -> None:
    sent = message(answered(), answered(began=26), key="k")
    run = Run([sent], [], [envelope()] * 2, {(METERED, DAY): 1}, failed_steps={("complete", ID): 1})
    assert oracle.judge(run).violations == []


@pytest.mark.parametrize(
    ("sent", "copies", "used", "step"),
    [
        (message(answered()), 1, 0, "take"),
        (message(answered(), answered(), key="k"), 2, 2, "begin"),
    ],
)
def test_what_the_store_was_passed_over_for_says_so_in_the_log(
    sent: Message, copies: int, used: int, step: str
) -> None:
    run = Run([sent], [], [envelope()] * copies, {(METERED, DAY): used}, ALLOW, failed_steps={(step, ID): 1})
    verdict = oracle.judge(run)
    assert verdict.violations == []
    assert verdict.excused_charges["allowed"] == max(copies, 1)
    assert oracle.judge(replace(run, setup=PLAIN)).violations != []
    assert oracle.judge(replace(run, failed_steps={})).violations != []


def test_only_the_earlier_release_keeps_what_its_gate_refuses() -> None:
    sent = message(answered(KEPT), answered(KEPT, began=20, replay=True), key="k")
    sent.expected = KEPT
    assert judged(sent, [], 0, setup=MIXED).violations == []
    assert "a replay of what is of the moment" in judged(sent, [], 0).violations[0]


def test_a_message_counted_on_another_day_is_noticed() -> None:
    run = Run([message(answered())], [], [envelope()], {(METERED, "2001-01-01"): 1})
    assert any("on 2001-01-01" in violation for violation in oracle.judge(run).violations)


def test_a_message_that_was_under_way_when_the_clock_moved_may_be_counted_on_either_day() -> None:
    shifts = ((0.0, 0), (10.5, 86400))
    tomorrow = charges.day_of(10.5 + 86400)
    for day in (DAY, tomorrow):
        run = Run([message(answered())], [], [envelope()], {(METERED, day): 1}, PLAIN, shifts)
        assert oracle.judge(run).violations == []
    late = Run([message(answered(began=12))], [], [envelope()], {(METERED, DAY): 1}, PLAIN, shifts)
    assert oracle.judge(late).violations != []


def test_more_excuses_than_a_fault_can_explain_are_a_complaint() -> None:
    died = Mark(Kind.DIED, 10.5, 12.0, 0)
    many = [message(unanswered()) for _ in range(charges.MOST_EXCUSED + 1)]
    run = Run(many, [died], [], {(METERED, DAY): 1})
    assert any("more than faults can explain" in violation for violation in oracle.judge(run).violations)
