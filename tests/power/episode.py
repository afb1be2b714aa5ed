"""The life of one disk: load, a cut at a random moment, power again, a count; and over again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.power.load import Load, Message
from tests.power.machine import Machine
from tests.power.subjects import Subject, WillNotStart

QUOTA = 10**9
MakeSubject = Callable[[Machine, Path, int], Subject]

_MOST_SECONDS_OF_LOAD = 3.0
_MOST_STEPS = 60
_ASKED_AGAIN = 300
_CUTS_IN_THE_START = 0.3


@dataclass
class Figures:
    """What was counted over some cuts; of messages unless it says otherwise."""

    cuts: int = 0
    cuts_in_the_start: int = 0
    """Of what was being started after one of these cuts."""
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    """Copies beyond the first under one tracking_id."""
    refused_but_sent: int = 0
    replays: int = 0
    forgotten: int = 0
    charges_missing: int = 0
    charges_too_many: int = 0
    repaired: int = 0
    """Starts that needed a repair by hand."""
    dead: int = 0
    """Disks from which the server would not start again; what lies there is counted no further."""
    bit: int = 0
    """Cuts that lost or tore something that was not synced."""
    checkpoints: int = 0
    seconds_to_serve: float = 0.0
    manners: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Take up another disk's."""
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            setattr(self, name, max(mine, theirs) if name == "seconds_to_serve" else mine + theirs)


def play(
    make: MakeSubject, computer: Machine, directory: Path, seed: int, cuts: int, manner: str | None = None
) -> Figures:
    """Cut the power so many times; every message of the disk's whole life is looked for after each cut.

    What survives is left to chance unless a ``manner`` is named.
    """
    chance = random.Random(seed)
    load = Load(chance, quota=QUOTA)
    figures = Figures()
    lost: set[Message] = set()
    day = datetime.now(UTC).date()
    with closing(make(computer, directory, QUOTA)) as subject:
        subject.start()
        for number in range(cuts):
            try:
                _cut_under_load(subject, load, chance, figures, manner, is_first=number == 0)
            except WillNotStart:
                figures.dead += 1
                figures.accepted, figures.lost = load.accepted(), len(lost)
                return figures
            subject.collect()
            ids = {tracking_id for tracking_id, _ in subject.arrived}
            lost |= {message for message in load.messages if message.accepted - ids}
            load.settle(subject.gateway.url)
            asked = [message for message in load.messages if message.key]
            load.ask_again(subject.gateway.url, chance.sample(asked, min(_ASKED_AGAIN, len(asked))))
        load.probe(subject.gateway.url)
        subject.collect()
        figures.repaired = subject.repaired
        _judge(subject, load, figures)
        if datetime.now(UTC).date() == day:
            _judge_quota(load, figures)
        subject.kill()
    figures.lost = len(lost)
    return figures


def _cut_under_load(
    subject: Subject,
    load: Load,
    chance: random.Random,
    figures: Figures,
    manner: str | None,
    *,
    is_first: bool,
) -> None:
    # The first soon after the files were made; the later ones when there is something in them.
    seconds = chance.uniform(0, 0.3 if is_first else _MOST_SECONDS_OF_LOAD)
    disturbance = random.Random(chance.random())
    with load.sending(subject.gateway.url):
        load.accept(1)
        with subject.disturbed(disturbance):
            time.sleep(seconds)
            toll = subject.machine.cut(
                chance.getrandbits(32), subject.pids(), manner=manner, steps=chance.randrange(_MOST_STEPS)
            )
            subject.kill()
    figures.cuts += 1
    figures.bit += bool(toll["lost"] or toll["torn"] or toll["names_lost"])
    figures.manners[toll["manner"]] += 1
    figures.checkpoints += _checkpoints(subject.machine.platter)
    subject.machine.switch_on()
    if subject.is_cut_in_its_start and chance.random() < _CUTS_IN_THE_START:
        _cut_in_the_start(subject, chance, figures)
    since = time.monotonic()
    subject.start()
    figures.seconds_to_serve = max(figures.seconds_to_serve, time.monotonic() - since)


def _cut_in_the_start(subject: Subject, chance: random.Random, figures: Figures) -> None:
    """Cut the power once more, while what the last cut left is being recovered."""
    seconds, seed = chance.uniform(0.3, 2), chance.getrandbits(32)
    timer = threading.Timer(seconds, lambda: subject.machine.cut(seed, subject.pids()))
    timer.start()
    # It ends before it serves, unless it was faster than the cut.
    with suppress(AssertionError):
        subject.start()
    timer.join()
    subject.kill()
    figures.cuts_in_the_start += 1
    subject.machine.switch_on()


def _judge(subject: Subject, load: Load, figures: Figures) -> None:
    """Compare what was answered with what arrived, over the disk's whole life."""
    by_text: dict[str, set[str]] = {}
    for tracking_id, text in subject.arrived:
        by_text.setdefault(text, set()).add(tracking_id)
    for message in load.messages:
        ids = by_text.get(message.text, set())
        if len(message.accepted) > 1:
            figures.violations.append(f"accepted under several tracking ids: {message}")
        # Without a key each attempt is a message of its own.
        if len(ids - message.accepted) > (0 if message.key else message.in_doubt):
            if message.accepted or message.in_doubt:
                figures.doubled += 1
            else:
                figures.refused_but_sent += 1
    figures.accepted = load.accepted()
    figures.repeated = subject.arrived.total() - len(subject.arrived)
    figures.replays, figures.forgotten = load.replays, load.forgotten


def _judge_quota(load: Load, figures: Figures) -> None:
    accepted = load.accepted()
    in_doubt = sum(message.in_doubt for message in load.messages if not message.key)
    figures.charges_missing = max(0, accepted - load.charged)
    figures.charges_too_many = max(0, load.charged - accepted - in_doubt)


def _checkpoints(platter: Path) -> int:
    """How often SQLite's logs began anew: their headers count it."""
    count = 0
    for log in platter.rglob("*-wal"):
        with suppress(OSError):
            count += int.from_bytes(log.read_bytes()[12:16], "big")
    return count
