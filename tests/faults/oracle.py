"""Judges a run: what senders were told, against what is on the queue and what the store has counted.

What a fault excuses is said here, in ``_charges``, ``_charges_as_told``, ``_most_copies`` and ``_may_go_unanswered``,
and nowhere else; everything that is not said there must hold whatever happened.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import schemas
from tests.faults.driver import CLIENTS, IDEMPOTENCY_KEY, KEY_TAIL, NAMES, PATIENCE_SECONDS, TEXT
from tests.faults.ledger import Answer, Attempt, End, Kind, Mark, Message

STATUS = {
    "UNAUTHORIZED": 401,
    "INVALID_PAYLOAD": 422,
    "UNKNOWN_PROVIDER": 422,
    "PROVIDER_DISABLED": 409,
    "ALL_PROVIDERS_DISABLED": 409,
    "NO_PROVIDER_AVAILABLE": 503,
    "TOO_MANY_REQUESTS": 429,
    "INVALID_IDEMPOTENCY_KEY": 400,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "IDEMPOTENCY_IN_PROGRESS": 409,
    "OUTCOME_UNKNOWN": 503,
    "SERVICE_UNAVAILABLE": 503,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "REQUEST_TIMEOUT": 408,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
}
"""The contract's table, but for INTERNAL_ERROR: that is a bug, whatever was broken."""

RETRY_AFTER = {
    "NO_PROVIDER_AVAILABLE",
    "TOO_MANY_REQUESTS",
    "IDEMPOTENCY_IN_PROGRESS",
    "OUTCOME_UNKNOWN",
    "SERVICE_UNAVAILABLE",
}

SECRET = {
    "an API key": re.compile(re.escape(KEY_TAIL).encode()),
    "an Idempotency-Key": re.compile(re.escape(IDEMPOTENCY_KEY).encode()),
}
"""What may stand nowhere."""

PRIVATE = {
    **SECRET,
    "a text": re.compile(re.escape(TEXT).encode()),
    # With its plus or without it, and not among the digits of a fraction or of an id.
    "a whole number": re.compile(rb"(?<![\w.-])98912\d{7}(?!\w)"),
}
"""What may stand nowhere but in the envelope."""

# A request goes on for so long after its sender has hung up.
_REQUEST_SECONDS = 10.0
# Until then nobody else gets the claim of a request that does not settle it.
_LEASE_SECONDS = 15.0


@dataclass
class Verdict:
    """What a run came to. ``violations`` is empty when every promise was kept."""

    messages: int = 0
    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    unknown: int = 0
    unanswered: int = 0
    lost: int = 0
    doubled: int = 0
    refused_but_sent: int = 0
    repeated: int = 0
    replayed: int = 0
    quota_difference: int = 0
    excused: int = 0
    slowest_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """Everything that there is to judge. ``queue`` holds the envelopes, ``used`` the messages counted by client."""

    messages: Sequence[Message]
    marks: Sequence[Mark]
    queue: Sequence[Mapping[str, Any]]
    used: Mapping[str, int]


def judge(run: Run) -> Verdict:
    """Hold the run against the guarantees."""
    verdict = Verdict(
        messages=len(run.messages),
        requests=sum(len(message.attempts) for message in run.messages),
        repeated=len(run.queue) - len({envelope["tracking_id"] for envelope in run.queue}),
    )
    by_number = _by_number(run.queue, verdict)
    for message in run.messages:
        found = by_number.pop(message.number, [])
        _judge_answers(message, run.marks, verdict)
        _judge_message(message, found, run.marks, verdict)
    verdict.violations += [f"message {number}: on the queue, and never sent" for number in by_number]
    _judge_quotas(run, verdict)
    return verdict


def private(text: bytes, where: str, kinds: Mapping[str, re.Pattern[bytes]] = PRIVATE) -> list[str]:
    """What stands in ``text`` that may not."""
    return [f"{what} stands in {where}" for what, pattern in kinds.items() if pattern.search(text)]


def quota_difference(run: Run) -> dict[str, int]:
    """By client, how many messages are counted that ought not to be (or, below 0, the reverse)."""
    return {client: _difference(run.used.get(client, 0), *bounds) for client, bounds in _bounds(run).items()}


def _by_number(queue: Iterable[Mapping[str, Any]], verdict: Verdict) -> dict[int, list[Mapping[str, Any]]]:
    schema = schemas.load("envelope")
    found: dict[int, list[Mapping[str, Any]]] = {}
    for envelope in queue:
        if not schema.is_valid(envelope):
            verdict.violations.append(f"an envelope breaks its schema: {schema.violations(envelope)}")
        found.setdefault(int(str(envelope["to"])[6:]), []).append(envelope)
    return found


def _judge_message(
    message: Message, found: Sequence[Mapping[str, Any]], marks: Sequence[Mark], verdict: Verdict
) -> None:
    """One message, and its envelopes on the queue."""
    told = _Told(message)
    verdict.accepted += message.is_accepted
    verdict.unknown += bool(told.unknown) and not message.is_accepted
    verdict.unanswered += bool(told.unheard) and not told.unknown and not message.is_accepted
    ids = {str(envelope["tracking_id"]) for envelope in found}
    complaints = [*_misplaced(message, told, ids), *_miscounted(message, found, marks)]
    for figure, complaint in complaints:
        verdict.violations.append(f"{message}: {complaint}")
        if figure is not None:
            setattr(verdict, figure, getattr(verdict, figure) + 1)


class _Told:
    """What the answers said: tracking ids by what became of them, and how many attempts were left without one."""

    def __init__(self, message: Message) -> None:
        answers = [(attempt, attempt.answer.tracking_id) for attempt in message.attempts if attempt.answer]
        self.accepted = {tracking_id for attempt, tracking_id in answers if attempt.is_accepted}
        self.unknown = {tracking_id for attempt, tracking_id in answers if attempt.code == "OUTCOME_UNKNOWN"}
        self.refused = {tracking_id for attempt, tracking_id in answers if attempt.is_refused}
        self.unheard = sum(a.answer is None and a.may_have_published for a in message.attempts)
        self.publishing = sum(attempt.may_have_published for attempt in message.attempts)


_Complaint = tuple[str | None, str]
"""The figure of the verdict that it counts in, if any, and the words."""


def _misplaced(message: Message, told: _Told, ids: set[str]) -> Iterator[_Complaint]:
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
        return
    if len(ids) > len(told.accepted | told.unknown) + told.unheard:
        yield "doubled", f"on the queue under {len(ids)} tracking ids"
    if ids & told.refused or len(ids - told.accepted - told.unknown) > told.unheard:
        yield "refused_but_sent", "refused, and on the queue"


def _miscounted(
    message: Message, found: Sequence[Mapping[str, Any]], marks: Sequence[Mark]
) -> Iterator[_Complaint]:
    """What is wrong with the number of envelopes, with their content, and with the message's end."""
    if not message.is_settled:
        yield None, "was not settled when time was up"
    most = _most_copies(message, marks)
    if len(found) > most:
        yield None, f"{len(found)} times on the queue, and its answers account for {most}"
    if message.expected is not None and message.is_accepted:
        yield None, f"accepted, and should have been refused as {message.expected}"
    body = json.loads(message.body)
    for envelope in found:
        if (envelope["to"], envelope["text"], envelope["client"]) != (
            body["to"],
            body["text"],
            message.client,
        ):
            yield None, "another message stands in its envelope"


def _most_copies(message: Message, marks: Sequence[Mark]) -> int:
    """How often a message may be on the queue.

    Each attempt that was unknown or unheard may have put it there. Without a key so has each that was accepted. With
    one the first that was accepted is all, and the others are replays of it; unless the store has forgotten the claim
    in between, which gives it away once more, or could not complete it, which gives it away when its lease is over.
    """
    publishing = [attempt for attempt in message.attempts if attempt.may_have_published]
    accepted = sorted((a for a in publishing if a.is_accepted), key=lambda attempt: attempt.began)
    if message.key is None or not accepted:
        return len(publishing)
    forgotten = sum(
        mark.kind in (Kind.FLUSHED, Kind.ROLLED_BACK)
        and mark.overlaps(accepted[0].began, max(attempt.ended for attempt in accepted))
        for mark in marks
    )
    resumed = sum(later.ended - earlier.began > _LEASE_SECONDS for earlier, later in pairwise(accepted))
    return len(publishing) - len(accepted) + min(len(accepted), 1 + forgotten + resumed)


def _judge_answers(message: Message, marks: Sequence[Mark], verdict: Verdict) -> None:
    firsts = {a.answer.body for a in message.attempts if a.answer and not a.answer.is_replay}
    has_unheard = any(attempt.answer is None for attempt in message.attempts)
    for attempt in message.attempts:
        took_seconds = attempt.ended - attempt.began
        answer = attempt.answer
        if answer is None:
            verdict.answers[attempt.end.name.lower()] += 1
            if not _may_go_unanswered(attempt, marks):
                verdict.violations.append(
                    f"message {message.number}: {attempt.end.name} after {took_seconds:.1f} s at gateway "
                    f"{attempt.gateway}, which was running"
                )
            continue
        verdict.slowest_seconds = max(verdict.slowest_seconds, took_seconds)
        verdict.answers[answer.code] += 1
        verdict.replayed += answer.is_replay
        wrong = list(_wrong_with(answer))
        if answer.is_replay and answer.body not in firsts and not has_unheard:
            wrong.append("a replay of what was never answered")
        if message.expected and answer.code in STATUS and answer.code not in _possible(message):
            wrong.append(f"expected {message.expected}")
        verdict.violations += [
            f"message {message.number}: {answer.status} {answer.code}: {what}" for what in wrong
        ]


def _possible(message: Message) -> set[str]:
    """The refusals that a message which is bound to be refused may get."""
    assert message.expected is not None
    return {message.expected, "SERVICE_UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS"}


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


def _may_go_unanswered(attempt: Attempt, marks: Sequence[Mark]) -> bool:
    """Whether the sender or a gateway that was not running is the reason why there was no answer."""
    if attempt.end in (End.CUT_SHORT, End.ABANDONED):
        return True
    gone = {Kind.DIED, Kind.STOPPED}
    if attempt.end is End.TIMED_OUT and attempt.ended - attempt.began >= PATIENCE_SECONDS:
        gone = {Kind.DIED}
    # A connection on which nothing was under way may be closed in the moment in which the next request is written.
    return any(mark.kind in gone and mark.overlaps(attempt.began, attempt.ended) for mark in marks)


def _judge_quotas(run: Run, verdict: Verdict) -> None:
    limits = {entry["name"]: entry.get("daily_quota") for entry in CLIENTS.values()}
    forgets = any(mark.kind in (Kind.FLUSHED, Kind.ROLLED_BACK) for mark in run.marks)
    for client, (least, most) in _bounds(run).items():
        used = run.used.get(client, 0)
        difference = _difference(used, least, most)
        verdict.quota_difference += abs(difference)
        verdict.excused += most - least
        if difference:
            expected = str(least) if least == most else f"{least} to {most}"
            verdict.violations.append(f"client {client}: {used} messages counted, expected {expected}")
        limit = limits[client]
        if limit is not None and used > limit:
            verdict.violations.append(f"client {client}: {used} messages counted of a quota of {limit}")
        accepted = sum(message.is_accepted for message in run.messages if message.client == client)
        if limit is not None and accepted > limit and not forgets:
            verdict.violations.append(f"client {client}: {accepted} messages accepted of a quota of {limit}")


def _bounds(run: Run) -> dict[str, tuple[int, int]]:
    """By client, how many messages may be counted at least and at most; where nothing was excused the two are one."""
    on_queue = {int(str(envelope["to"])[6:]) for envelope in run.queue}
    bounds = dict.fromkeys(NAMES, (0, 0))
    for message in run.messages:
        least, most = bounds[message.client]
        low, high = _charges(message, message.number in on_queue, run.marks)
        bounds[message.client] = (least + low, most + high)
    return bounds


def _charges(message: Message, is_on_queue: bool, marks: Sequence[Mark]) -> tuple[int, int]:
    """What a message may have cost at least and at most, whatever happened to the store.

    A store that was flushed has forgotten what was charged before. A store that lost its last second has forgotten what
    was charged in it, and what was given back.
    """
    attempts = [attempt for attempt in message.attempts if attempt.end not in (End.UNSENT, End.CUT_SHORT)]
    low, high = _charges_as_told(message, attempts, is_on_queue, marks)
    for mark in marks:
        if mark.kind is Kind.FLUSHED and any(attempt.began <= mark.ended for attempt in attempts):
            low = 0
            if all(_is_over(attempt, mark.began) for attempt in attempts):
                high = 0
        if mark.kind is Kind.ROLLED_BACK:
            touched = [attempt for attempt in attempts if mark.overlaps(attempt.began, attempt.ended)]
            low = 0 if touched else low
            high += any(attempt.is_refused for attempt in touched)
    return low, high


def _charges_as_told(
    message: Message, attempts: Sequence[Attempt], is_on_queue: bool, marks: Sequence[Mark]
) -> tuple[int, int]:
    """What a message may have cost at least and at most, with a store that forgets nothing.

    Accepted, or answered as unknown, or on the queue: 1. Refused: 0. Never answered and not on the queue, and not sent
    again until it was settled: 0; but where a gateway died or the broker was broken in the meantime, it may have been
    charged and then not published, or its publish may have come to nothing: 0 or 1.
    """
    if message.is_accepted or is_on_queue or any(attempt.code == "OUTCOME_UNKNOWN" for attempt in attempts):
        return 1, 1
    breaks = [mark for mark in marks if mark.kind in (Kind.DIED, Kind.BROKER)]
    is_open = (message.key is None or message.gives_up) and any(
        attempt.answer is None and mark.overlaps(attempt.began, attempt.ended + _REQUEST_SECONDS)
        for attempt in attempts
        for mark in breaks
    )
    return 0, int(is_open)


def _is_over(attempt: Attempt, time: float) -> bool:
    """Whether the gateway had certainly done with this attempt by then."""
    return attempt.ended + (0 if attempt.answer else _REQUEST_SECONDS) < time


def _difference(used: int, least: int, most: int) -> int:
    return used - most if used > most else min(0, used - least)
