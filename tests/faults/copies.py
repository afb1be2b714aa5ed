"""How often a message may be on the queue, and under which tracking ids; each copy beyond the first has its reason.

| excuse | of which messages | at most |
|---|---|---|
| ``in doubt`` | with attempts that were unknown or unheard | one for each such attempt |
| ``forgotten`` | asked for before and after the store forgot | one for each time that it forgot |
| ``unstored`` | whose answer the store could not keep, says the log | one for each line that says so |
| ``allowed`` | served without their claim, says the log, as ``on_store_error`` has it | one for each such line |
| ``spooled`` | that went to the spool in doubt of the broker | one for each such attempt |
| ``moved again`` | that waited in a spool | ``_moves`` for each broken broker or killed gateway meanwhile |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.faults.ledger import OF_A_PROVIDER, Attempt, End, Kind, Mark, Message
from tests.faults.setups import Setup

# A message that RabbitMQ has not confirmed for so long goes to the spool.
SPOOL_PATIENCE_SECONDS = 1.0
# A recovery waits until the spool is empty, for so long at most.
_DRAINED_SECONDS = 60.0
# The mover tries again after an unknown outcome: when a connection is lost, and every 5 s in which nothing comes.
_CONFIRM_SECONDS = 5.0
_LOST_CONNECTIONS = 3

_FINAL = {"INVALID_PAYLOAD", "UNKNOWN_PROVIDER", "TOO_MANY_REQUESTS", *OF_A_PROVIDER}

Complaint = tuple[str | None, str]
"""The figure of the verdict that it counts in, if any, and the words."""


class Told:
    """What the answers said: tracking ids by what became of them, and how many attempts were left without one."""

    def __init__(self, message: Message) -> None:
        answers = [(attempt, attempt.answer.tracking_id) for attempt in message.attempts if attempt.answer]
        self.accepted = {tracking_id for attempt, tracking_id in answers if attempt.is_accepted}
        self.unknown = {tracking_id for attempt, tracking_id in answers if attempt.code == "OUTCOME_UNKNOWN"}
        self.refused = {tracking_id for attempt, tracking_id in answers if attempt.is_refused}
        self.unheard = sum(a.answer is None and a.may_have_published for a in message.attempts)
        self.publishing = sum(attempt.may_have_published for attempt in message.attempts)


def misplaced(
    message: Message, told: Told, ids: set[str], marks: Sequence[Mark], setup: Setup
) -> Iterator[Complaint]:
    """What is wrong with the tracking ids on the queue."""
    if told.accepted - ids:
        yield "lost", "accepted, and not on the queue"
    if message.key is not None:
        if len(ids) > 1:
            yield "doubled", f"on the queue under {len(ids)} tracking ids"
        if len(told.accepted | told.unknown | ids) > 1:
            yield None, "one key was given several tracking ids"
        # All attempts have one id: only when none of them may have published it, it was refused.
        if ids and not told.publishing:
            yield "refused_but_sent", "refused every time, and on the queue"
        elif ids and _is_refused_in_the_end(message, marks, setup):
            yield "refused_but_sent", "on the queue, and called refused in the end"
        return
    if ids and _is_cut_off(message, marks):
        yield None, "on the queue, and SIGTERM cut off its answer"
    if len(ids) > len(told.accepted | told.unknown) + told.unheard:
        yield "doubled", f"on the queue under {len(ids)} tracking ids"
    if ids & told.refused or len(ids - told.accepted - told.unknown) > told.unheard:
        yield "refused_but_sent", "refused, and on the queue"


def _is_refused_in_the_end(message: Message, marks: Sequence[Mark], setup: Setup) -> bool:
    """Whether the last word on a message that may be on the queue is a refusal, and nothing explains why.

    A store that has forgotten the claim, or that is passed over, cannot know better.
    """
    last = message.attempts[-1]
    if last.code not in _FINAL or message.is_accepted or message.expected is not None:
        return False
    excuses = {Kind.FLUSHED, Kind.ROLLED_BACK} | ({Kind.STORE} if setup.allows else set())
    return not any(
        mark.kind in excuses and mark.overlaps(message.attempts[0].began, last.ended) for mark in marks
    )


def _is_cut_off(message: Message, marks: Sequence[Mark]) -> bool:
    """Whether a request was served and lost its answer although its gateway was only told to end."""
    if len(message.attempts) != 1 or message.attempts[0].end is not End.LOST:
        return False
    met = {mark.kind for mark in marks if mark.met(message.attempts[0])}
    return Kind.STOPPED in met and Kind.DIED not in met


class Most(NamedTuple):
    """So many copies without any fault's excuse, and so many with them; ``reasons`` names these."""

    unexcused: int
    excused: int
    reasons: str


def most(
    message: Message, marks: Sequence[Mark], setup: Setup, failed_steps: Mapping[tuple[str, str], int]
) -> Most:
    """How often a message may be on the queue.

    Each attempt that was unknown or unheard may have put it there. Without a key so has each that was accepted. With
    one the first that was accepted is all, and the others are replays of it.
    """
    publishing = [attempt for attempt in message.attempts if attempt.may_have_published]
    accepted = sorted((a for a in publishing if a.is_accepted), key=lambda attempt: attempt.began)
    doubtful = len(publishing) - len(accepted)
    excuses = {"in doubt": doubtful}
    expected = 1
    if accepted and message.key is None:
        expected = len(accepted)
    elif accepted:
        more = _given_away_again(message, accepted, marks, setup, failed_steps)
        # Each further copy was accepted by an attempt of its own.
        left = len(accepted) - 1
        for name, count in more.items():
            excuses[name] = min(count, left)
            left -= excuses[name]
    elif doubtful:
        excuses["in doubt"] = doubtful - 1
    else:
        expected = 0
    if setup.has_spool:
        excuses |= _spooled(publishing, marks)
    reasons = ", ".join(name for name, count in excuses.items() if count)
    return Most(expected, expected + sum(excuses.values()), reasons)


def _given_away_again(
    message: Message,
    accepted: Sequence[Attempt],
    marks: Sequence[Mark],
    setup: Setup,
    failed_steps: Mapping[tuple[str, str], int],
) -> dict[str, int]:
    """How often the claim of an accepted message may have been another request's once more, by reason."""
    began, ended = accepted[0].began, max(attempt.ended for attempt in accepted)
    forgets = {Kind.FLUSHED, Kind.ROLLED_BACK}
    if setup.is_embedded:
        # The file goes by the gateways' clock: a lease may be over all at once.
        forgets.add(Kind.CLOCK)
    ids = {attempt.answer.tracking_id for attempt in message.attempts if attempt.answer}
    return {
        "forgotten": sum(mark.kind in forgets and mark.overlaps(began, ended) for mark in marks),
        "unstored": sum(failed_steps.get(("complete", tracking_id), 0) for tracking_id in ids),
        "allowed": sum(failed_steps.get(("begin", tracking_id), 0) for tracking_id in ids if setup.allows),
    }


def _spooled(publishing: Sequence[Attempt], marks: Sequence[Mark]) -> dict[str, int]:
    """How many more copies a spool may make of a message, by reason."""
    breaks = [mark for mark in marks if mark.kind in (Kind.BROKER, Kind.DIED, Kind.STOPPED)]
    spooled = [
        attempt
        for attempt in publishing
        if attempt.ended - attempt.began >= SPOOL_PATIENCE_SECONDS
        or any(mark.kind is Kind.BROKER and mark.met(attempt) for mark in marks)
    ]
    moved = sum(
        _moves(mark)
        for mark in breaks
        if any(mark.overlaps(attempt.began, attempt.ended + _DRAINED_SECONDS) for attempt in spooled)
    )
    return {"spooled": len(spooled), "moved again": moved}


def _moves(mark: Mark) -> int:
    """How often a message may be moved again because of this fault."""
    if mark.kind is not Kind.BROKER:
        return 1
    return _LOST_CONNECTIONS + int((mark.ended - mark.began) / _CONFIRM_SECONDS)
