"""What is wrong with answers: by the contract's table, by what became of the message before, and when there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import schemas
from tests.faults.ledger import OF_A_PROVIDER, Answer, Attempt, End, Kind, Mark, Message
from tests.faults.load import PATIENCE_SECONDS, ROTATED, SCARCE
from tests.faults.setups import Setup
from tests.support import contract

STATUS = {
    code: status for code, status in contract.STATUS.items() if code not in ("BAD_REQUEST", "INTERNAL_ERROR")
}
"""What may be answered. All send HTTP, and INTERNAL_ERROR is a bug, whatever was broken."""

RETRY_AFTER = {
    "NO_PROVIDER_AVAILABLE",
    "TOO_MANY_REQUESTS",
    "IDEMPOTENCY_IN_PROGRESS",
    "OUTCOME_UNKNOWN",
    "SERVICE_UNAVAILABLE",
}

REPLAYED = {"ACCEPTED", "INVALID_PAYLOAD", "UNKNOWN_PROVIDER"}
"""What is an answer to the payload. Everything else is of the moment."""

_OF_THE_MOMENT = {"SERVICE_UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS", "REQUEST_TIMEOUT"}
# Why a gateway that is killed or told to end leaves a request without an answer.
_GONE = (Kind.DIED, Kind.STOPPED)


def complaints(message: Message, marks: Sequence[Mark], setup: Setup) -> Iterator[str]:
    """What is wrong with the answers to one message, each in its own sentence."""
    firsts = {a.answer.body for a in message.attempts if a.answer and not a.answer.is_replay}
    has_unheard = any(attempt.answer is None for attempt in message.attempts)
    for attempt in message.attempts:
        answer = attempt.answer
        if answer is None:
            if not _may_go_unanswered(attempt, marks):
                yield (
                    f"message {message.number}: {attempt.end.name} after {attempt.ended - attempt.began:.1f} s at "
                    f"gateway {attempt.gateway}, which was running"
                )
            continue
        wrong = [*_wrong_with(answer), *_wrong_for(message, attempt, answer, marks, setup)]
        if answer.is_replay and answer.body not in firsts and not has_unheard:
            wrong.append("a replay of what was never answered")
        yield from (f"message {message.number}: {answer.status} {answer.code}: {what}" for what in wrong)


def _wrong_with(answer: Answer) -> Iterator[str]:
    """What is wrong with one answer by itself."""
    document = answer.json
    if answer.headers.get("content-type") != "application/json":
        yield "its content type is not JSON"
    if answer.status == 202:
        if not schemas.load("accepted").is_valid(document):
            yield "the body breaks the schema 'accepted'"
    elif not schemas.load("error").is_valid(document):
        yield "the body breaks the schema 'error'"
    elif STATUS.get(answer.code) != answer.status:
        yield "not in the contract's table"
    if not isinstance(document, dict) or document.get("tracking_id") != answer.tracking_id:
        yield "the tracking_id of the body is not that of X-Tracking-Id"
    if answer.code in RETRY_AFTER and answer.retry_after_seconds < 1:
        yield "without Retry-After"


def _wrong_for(
    message: Message, attempt: Attempt, answer: Answer, marks: Sequence[Mark], setup: Setup
) -> Iterator[str]:
    """What is wrong with an answer to this message, given what was switched off or lowered."""
    # The release before this one keeps what its gate has refused.
    is_kept = setup.is_mixed and answer.code in OF_A_PROVIDER
    if answer.is_replay and answer.code not in REPLAYED and not is_kept:
        yield "a replay of what is of the moment"
    if answer.code not in STATUS:
        return
    if message.expected is not None:
        if answer.code not in {message.expected, *_OF_THE_MOMENT, "TOO_MANY_REQUESTS"}:
            yield f"expected {message.expected}"
        elif answer.code == "TOO_MANY_REQUESTS" and message.client not in (SCARCE, ROTATED):
            yield "to a client whose quota is not used up"
        return
    possible = {"ACCEPTED", "OUTCOME_UNKNOWN", *_OF_THE_MOMENT}
    lowered = any(mark.kind is Kind.LOWERED and mark.met(attempt) for mark in marks)
    if message.client == SCARCE or (message.client == ROTATED and lowered):
        possible.add("TOO_MANY_REQUESTS")
    if any(mark.kind is Kind.SWITCHED_OFF and mark.met(attempt) for mark in marks):
        possible |= set(OF_A_PROVIDER)
    if answer.code not in possible:
        yield "to a message that nothing is wrong with"


def _may_go_unanswered(attempt: Attempt, marks: Sequence[Mark]) -> bool:
    """Whether the sender or a gateway that was not running is the reason why there was no answer."""
    if attempt.end in (End.CUT_SHORT, End.ABANDONED):
        return True
    gone = set(_GONE)
    if attempt.end is End.TIMED_OUT and attempt.ended - attempt.began >= PATIENCE_SECONDS:
        gone = {Kind.DIED}
    # A connection on which nothing was under way may be closed in the moment in which the next request is written.
    return any(mark.kind in gone and mark.met(attempt) for mark in marks)
