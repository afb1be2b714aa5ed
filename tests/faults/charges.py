"""What each client's messages may have cost on each day: exactly so many, but for what a fault excuses by name.

| excuse | of which messages | at most |
|---|---|---|
| ``died`` | unanswered by a gateway that was killed or paused, not asked for again, not on the queue | one |
| ``broker`` | whose sender hung up while the broker was broken, likewise | one |
| ``flushed`` | under way at the moment of ``FLUSHALL``, which is known to some milliseconds | one |
| ``rolled back`` | under way between the last moment that Redis remembers and its death | one, and one if refused |
| ``allowed`` | served without claim or quota, says the log | one for each attempt that published |
| ``clock`` | refused while the clock of an embedded file was moved | one, whose note had expired |
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.faults.ledger import Attempt, End, Kind, Mark, Message
from tests.faults.setups import Setup

FORGETS = (Kind.FLUSHED, Kind.ROLLED_BACK)

# A request goes on for so long after its sender has hung up.
REQUEST_SECONDS = 10.0

MOST_EXCUSED = 400
"""So many messages may be under way at the moment of one fault: more excuses than that for one client are none."""

_EPOCH = time.time() - time.monotonic()


@dataclass
class Account:
    """One client's. ``difference`` is how many messages are counted too many or, below 0, too few."""

    difference: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


@dataclass
class Charge:
    """What one message may have cost at least and at most, and by which excuses the two differ."""

    least: int
    most: int
    excuses: list[str] = field(default_factory=list)

    def may_be(self, least: int, most: int, excuse: str) -> None:
        """Widen or replace the bounds; the excuse counts only if that leaves them apart."""
        if (least, most) != (self.least, self.most):
            self.excuses.append(excuse)
        self.least, self.most = least, most


@dataclass(frozen=True)
class Evidence:
    """What is known besides the answers.

    ``on_queue`` are the numbers of messages; ``passed_over`` the tracking ids of which a gateway has said that it went
    on without a step on the store.
    """

    on_queue: Collection[int]
    marks: Sequence[Mark]
    setup: Setup
    passed_over: Collection[str]


def account(
    messages: Sequence[Message],
    evidence: Evidence,
    shifts: Sequence[tuple[float, int]],
    used: Mapping[str, int],
) -> Account:
    """Hold what is counted, by day, against what these messages of one client may have cost."""
    found = Account()
    least_on: Counter[str] = Counter()
    most_on: Counter[str] = Counter()
    least = most = 0
    for message in messages:
        charge = charge_of(message, evidence)
        days = _days(message, shifts)
        least, most = least + charge.least, most + charge.most
        if len(days) == 1:
            least_on[next(iter(days))] += charge.least
        for day in days:
            most_on[day] += charge.most
        if charge.most > charge.least:
            found.excused[charge.excuses[0]] += charge.most - charge.least
    difference = _difference(sum(used.values()), least, most)
    if difference:
        found.complaints.append(_complaint(sum(used.values()), least, most))
    by_day = {
        day: _difference(used.get(day, 0), least_on[day], most_on[day])
        for day in used.keys() | most_on.keys()
    }
    for day, wrong in by_day.items():
        if wrong and len(by_day) > 1:
            found.complaints.append(f"{_complaint(used.get(day, 0), least_on[day], most_on[day])} on {day}")
    found.difference = max((difference, *by_day.values()), key=abs)
    faults = sum(mark.kind is not Kind.STORE for mark in evidence.marks) or 1
    for excuse, count in found.excused.items():
        if count > MOST_EXCUSED * faults:
            found.complaints.append(
                f"{count} charges are excused as '{excuse}', more than faults can explain"
            )
    return found


def charge_of(message: Message, evidence: Evidence) -> Charge:
    """What a message may have cost."""
    marks = evidence.marks
    is_on_queue = message.number in evidence.on_queue
    attempts = [attempt for attempt in message.attempts if attempt.end not in (End.UNSENT, End.CUT_SHORT)]
    charge = _as_told(message, attempts, is_on_queue, marks)
    for mark in marks:
        if mark.kind is Kind.FLUSHED:
            _flush(charge, attempts, mark)
        elif mark.kind is Kind.ROLLED_BACK:
            _roll_back(charge, attempts, mark)
        elif mark.kind is Kind.CLOCK and evidence.setup.is_embedded and _is_refused_in(attempts, mark):
            charge.may_be(charge.least, charge.most + 1, "clock")
    if evidence.setup.allows:
        _allow(charge, attempts, evidence)
    return charge


def _as_told(
    message: Message, attempts: Sequence[Attempt], is_on_queue: bool, marks: Sequence[Mark]
) -> Charge:
    """What a message has cost with a store that forgets nothing.

    Accepted, or answered as unknown, or on the queue: 1. Refused: 0. Never answered and not on the queue, and not sent
    again until it was settled: 0; but where its gateway died or the broker was broken in the meantime, it may have been
    charged and then not published, or its publish may have come to nothing: 0 or 1.
    """
    if message.is_accepted or is_on_queue or any(attempt.code == "OUTCOME_UNKNOWN" for attempt in attempts):
        return Charge(1, 1)
    charge = Charge(0, 0)
    if message.key is None or message.gives_up:
        for kind, excuse in ((Kind.DIED, "died"), (Kind.BROKER, "broker")):
            if any(
                attempt.answer is None and mark.kind is kind and mark.met(attempt, REQUEST_SECONDS)
                for attempt in attempts
                for mark in marks
            ):
                charge.may_be(0, 1, excuse)
    return charge


def _flush(charge: Charge, attempts: Sequence[Attempt], mark: Mark) -> None:
    """What was charged before is forgotten, what was charged after is not; of what was under way nobody knows."""
    if all(_is_over(attempt, mark.began) for attempt in attempts):
        charge.least = charge.most = 0
    elif any(attempt.began <= mark.ended for attempt in attempts) and not _is_charged_after(attempts, mark):
        charge.may_be(0, charge.most, "flushed")


def _roll_back(charge: Charge, attempts: Sequence[Attempt], mark: Mark) -> None:
    """What happened since the last moment that is remembered is forgotten: charges, and their return."""
    touched = [attempt for attempt in attempts if mark.met(attempt)]
    if touched:
        least = charge.least if _is_charged_after(attempts, mark) else 0
        most = charge.most + _is_refused_in(attempts, mark)
        charge.may_be(least, most, "rolled back")


def _allow(charge: Charge, attempts: Sequence[Attempt], evidence: Evidence) -> None:
    """Served without quota; or without a claim, and then charged as often as it was published.

    An attempt without an answer has no tracking_id to be looked up by: it may have been served so while the store was
    broken.
    """
    broken = [mark for mark in evidence.marks if mark.kind is Kind.STORE]
    if any(
        attempt.answer.tracking_id in evidence.passed_over
        if attempt.answer
        else any(mark.met(attempt, REQUEST_SECONDS) for mark in broken)
        for attempt in attempts
    ):
        published = sum(attempt.may_have_published for attempt in attempts)
        charge.may_be(0, max(charge.most, published), "allowed")


def _is_refused_in(attempts: Sequence[Attempt], mark: Mark) -> bool:
    return any(attempt.is_refused and mark.met(attempt) for attempt in attempts)


def _is_charged_after(attempts: Sequence[Attempt], mark: Mark) -> bool:
    """Whether an attempt that began later was charged anew: it was not answered from a record."""
    return any(
        attempt.began > mark.ended and attempt.answer is not None and attempt.may_have_published
        for attempt in attempts
    )


def _is_over(attempt: Attempt, moment: float) -> bool:
    """Whether the gateway had certainly done with this attempt by then."""
    return attempt.ended + (0 if attempt.answer else REQUEST_SECONDS) < moment


def _days(message: Message, shifts: Sequence[tuple[float, int]]) -> set[str]:
    """The days on which a message may have been charged, by the gateways' clock."""
    days = set()
    for attempt in message.attempts:
        ended = attempt.ended + (0 if attempt.answer else REQUEST_SECONDS)
        for position, (since, ahead) in enumerate(shifts):
            until = shifts[position + 1][0] if position + 1 < len(shifts) else float("inf")
            # What was read from the clock just before it moved is used just after.
            if since <= ended and attempt.began <= until:
                days |= {day_of(max(attempt.began, since) + ahead), day_of(min(ended, until) + ahead)}
    return days


def day_of(moment: float) -> str:
    """The UTC day of a moment of the monotonic clock, as the machine's wall clock has it."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=_EPOCH + moment)).date().isoformat()


def _difference(used: int, least: int, most: int) -> int:
    return used - most if used > most else min(0, used - least)


def _complaint(used: int, least: int, most: int) -> str:
    expected = str(least) if least == most else f"{least} to {most}"
    return f"{used} messages counted, expected {expected}"
