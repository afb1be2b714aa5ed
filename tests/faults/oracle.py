"""Judges a run: what senders were told, against what is on the queue and what the store has counted.

What a fault excuses is said in ``charges`` (the quota), ``copies`` (the queue) and ``answers``, each excuse by its name
and with its bound; everything that is not said there must hold whatever happened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemas
from tests.faults import answers, charges, copies
from tests.faults.ledger import Mark, Message
from tests.faults.load import CLIENTS, NAMES
from tests.faults.setups import PLAIN, Setup


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
    reworded: int = 0
    quota_difference: int = 0
    excused_charges: Counter[str] = field(default_factory=Counter)
    excused_copies: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """Everything that there is to judge.

    ``queue`` holds the envelopes; ``used`` the messages counted by client and day; ``shifts`` from when on (monotonic
    seconds) the gateways' clock was how many seconds ahead; ``failed_steps`` how often a gateway has said, of a step of
    a tracking_id, that the store failed at it.
    """

    messages: Sequence[Message]
    marks: Sequence[Mark]
    queue: Sequence[Mapping[str, Any]]
    used: Mapping[tuple[str, str], int]
    setup: Setup = PLAIN
    shifts: Sequence[tuple[float, int]] = ((0.0, 0),)
    failed_steps: Mapping[tuple[str, str], int] = field(default_factory=dict)


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
        _count_answers(message, verdict)
        verdict.violations += answers.complaints(message, run.marks, run.setup)
        _judge_message(message, found, run, verdict)
    verdict.violations += [f"message {number}: on the queue, and never sent" for number in by_number]
    _judge_quotas(run, verdict)
    return verdict


def quota_difference(run: Run) -> dict[str, int]:
    """By client, how many messages are counted that ought not to be (or, below 0, the reverse)."""
    return {client: account.difference for client, account in _accounts(run).items()}


def _accounts(run: Run) -> dict[str, charges.Account]:
    on_queue = {int(str(envelope["to"])[6:]) for envelope in run.queue}
    passed_over = {tracking_id for step, tracking_id in run.failed_steps if step in ("begin", "take", "arm")}
    accounts = {}
    for client in NAMES:
        messages = [message for message in run.messages if message.client == client]
        used = {day: count for (name, day), count in run.used.items() if name == client}
        evidence = charges.Evidence(on_queue, run.marks, run.setup, passed_over)
        accounts[client] = charges.account(messages, evidence, run.shifts, used)
    return accounts


def _by_number(queue: Iterable[Mapping[str, Any]], verdict: Verdict) -> dict[int, list[Mapping[str, Any]]]:
    schema = schemas.load("envelope")
    found: dict[int, list[Mapping[str, Any]]] = {}
    for envelope in queue:
        if not schema.is_valid(envelope):
            verdict.violations.append(f"an envelope breaks its schema: {schema.violations(envelope)}")
        found.setdefault(int(str(envelope["to"])[6:]), []).append(envelope)
    return found


def _count_answers(message: Message, verdict: Verdict) -> None:
    for attempt in message.attempts:
        verdict.reworded += attempt.is_reworded and attempt.answer is not None
        if attempt.answer is None:
            verdict.answers[attempt.end.name.lower()] += 1
            continue
        verdict.slowest_seconds = max(verdict.slowest_seconds, attempt.ended - attempt.began)
        verdict.answers[attempt.answer.code] += 1
        verdict.replayed += attempt.answer.is_replay


def _judge_message(message: Message, found: Sequence[Mapping[str, Any]], run: Run, verdict: Verdict) -> None:
    """One message, and its envelopes on the queue."""
    told = copies.Told(message)
    verdict.accepted += message.is_accepted
    verdict.unknown += bool(told.unknown) and not message.is_accepted
    verdict.unanswered += bool(told.unheard) and not told.unknown and not message.is_accepted
    ids = {str(envelope["tracking_id"]) for envelope in found}
    most = copies.most(message, run.marks, run.setup, run.failed_steps)
    if len(found) > most.unexcused and most.reasons:
        verdict.excused_copies[most.reasons] += min(len(found), most.excused) - most.unexcused
    found_wrong = [
        *copies.misplaced(message, told, ids, run.marks, run.setup),
        *_miscounted(message, found, most.excused),
    ]
    for figure, complaint in found_wrong:
        verdict.violations.append(f"{message}: {complaint}")
        if figure is not None:
            setattr(verdict, figure, getattr(verdict, figure) + 1)


def _miscounted(
    message: Message, found: Sequence[Mapping[str, Any]], most: int
) -> Iterator[copies.Complaint]:
    """What is wrong with the number of envelopes, with their content, and with the message's end."""
    if not message.is_settled:
        yield None, "was not settled when time was up"
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


def _judge_quotas(run: Run, verdict: Verdict) -> None:
    limits = {entry["name"]: entry.get("daily_quota") for entry in CLIENTS.values()}
    forgets = any(mark.kind in charges.FORGETS for mark in run.marks)
    for client, account in _accounts(run).items():
        verdict.quota_difference += abs(account.difference)
        verdict.excused_charges += account.excused
        verdict.violations += [f"client {client}: {complaint}" for complaint in account.complaints]
        limit = limits[client]
        if limit is None:
            continue
        days = {day for name, day in run.used if name == client}
        for day in days:
            if run.used[client, day] > limit:
                verdict.violations.append(
                    f"client {client}: {run.used[client, day]} messages counted of a quota of {limit} on {day}"
                )
        accepted = sum(message.is_accepted for message in run.messages if message.client == client)
        if accepted > limit * len(days) and not forgets and not run.setup.allows:
            verdict.violations.append(f"client {client}: {accepted} messages accepted of a quota of {limit}")
