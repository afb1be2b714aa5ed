"""Breaks everything, for as many rounds as one likes: ``python -m tests.faults --seed S --rounds N [--fault NAME]``.

A round is an episode under load with about six of the faults; the rounds that follow it go through the others.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence

from tests.faults.faults import FAULTS, KINDS, named
from tests.faults.world import Episode, Fault, Servers, play
from tests.support.servers import RabbitServer, RedisServer

HANDS = -(-len(FAULTS) // 6)
"""So many rounds in a row go through all faults, about six in each."""

_SHOWN_VIOLATIONS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, help="of the first round; each next one's is one more (default: any)"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--fault", action="append", default=[], help="only this one, each round; may be repeated"
    )
    parser.add_argument("--kind", choices=KINDS, help="all faults of this kind, each round")
    given = parser.parse_args(arguments)
    first = random.randrange(10**6) if given.seed is None else given.seed
    try:
        chosen = [named(name) for name in given.fault] + [one for one in FAULTS if one.kind == given.kind]
    except LookupError as error:
        parser.error(str(error))
    episodes = []
    with RedisServer() as store, RabbitServer() as broker, Servers(store, broker) as servers:
        for seed in range(first, first + given.rounds):
            faults = chosen or hand(seed)
            say(
                f"round {seed - first + 1} of {given.rounds}, seed {seed}: {', '.join(f.name for f in faults)}"
            )
            episode = play(servers, seed, faults, say)
            episodes.append(episode)
            report(episode)
    say(table(episodes))
    return 1 if any(episode.verdict.violations for episode in episodes) else 0


def hand(seed: int) -> list[Fault]:
    """The faults of the round with this seed; HANDS in a row make up the whole deck, shuffled."""
    deck = sorted(FAULTS, key=lambda fault: fault.name)
    random.Random(seed // HANDS).shuffle(deck)
    return deck[seed % HANDS :: HANDS]


def report(episode: Episode) -> None:
    """Say what one round came to."""
    verdict = episode.verdict
    answers = ", ".join(f"{code} {count}" for code, count in verdict.answers.most_common())
    say(f"  {verdict.requests} requests: {answers}")
    say(
        f"  {verdict.messages} messages: {verdict.accepted} accepted, {verdict.lost} lost, {verdict.doubled} doubled, "
        f"quota difference {verdict.quota_difference}"
    )
    for violation in verdict.violations[:_SHOWN_VIOLATIONS]:
        say(f"  VIOLATION: {violation}")
    if len(verdict.violations) > _SHOWN_VIOLATIONS:
        say(f"  … and {len(verdict.violations) - _SHOWN_VIOLATIONS} more")
    if episode.kept is not None:
        say(f"  logs and violations are kept in {episode.kept}")


def table(episodes: Sequence[Episode]) -> str:
    """The figures over all rounds, and each fault with its count and its longest recovery; in Markdown."""
    verdicts = [episode.verdict for episode in episodes]
    injected = Counter(fault for episode in episodes for fault, _ in episode.recoveries)
    longest: dict[Fault, float] = {}
    for episode in episodes:
        for fault, seconds in episode.recoveries:
            longest[fault] = max(seconds, longest.get(fault, 0.0))
    seeds = [episode.seed for episode in episodes]
    rows: list[tuple[str, object]] = [
        ("rounds (seeds)", f"{len(episodes)} ({seeds[0]} to {seeds[-1]})"),
        ("requests", sum(v.requests for v in verdicts)),
        ("messages", sum(v.messages for v in verdicts)),
        ("faults injected", injected.total()),
        ("accepted", sum(v.accepted for v in verdicts)),
        ("left at OUTCOME_UNKNOWN", sum(v.unknown for v in verdicts)),
        ("left without an answer", sum(v.unanswered for v in verdicts)),
        ("replayed answers", sum(v.replayed for v in verdicts)),
        ("on the queue once more under the same tracking_id", sum(v.repeated for v in verdicts)),
        ("**accepted and lost**", sum(v.lost for v in verdicts)),
        ("**doubled**", sum(v.doubled for v in verdicts)),
        ("**refused and sent anyway**", sum(v.refused_but_sent for v in verdicts)),
        ("**quota difference**", sum(v.quota_difference for v in verdicts)),
        ("charges that a fault excuses at most", sum(v.excused for v in verdicts)),
        ("slowest answer", f"{max(v.slowest_seconds for v in verdicts):.1f} s"),
        ("longest recovery", f"{max(longest.values(), default=0.0):.1f} s"),
        ("violations of any kind", sum(len(v.violations) for v in verdicts)),
    ]
    lines = ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += ["| kind | fault | times | longest recovery |", "|---|---|---|---|"]
    lines += [
        f"| {fault.kind} | {fault.name} | {injected[fault]} | {longest[fault]:.1f} s |"
        for fault in sorted(injected, key=lambda fault: (fault.kind, fault.name))
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once, however the output is read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
