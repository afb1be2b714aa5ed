"""The figures of rounds: a line of JSON for each, written when the round ends, and the table that sums them up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.episode import Episode

Line = dict[str, Any]
"""One round as it is written down."""


def line_of(episode: Episode) -> Line:
    """What is kept of a round."""
    verdict = vars(episode.verdict)
    return {
        "seed": episode.seed,
        "setup": str(episode.setup),
        "seconds": round(episode.seconds, 1),
        "faults": [[fault.kind, fault.name, round(seconds, 2)] for fault, seconds in episode.recoveries],
        "kept": str(episode.kept) if episode.kept else None,
        **{name: dict(value) if isinstance(value, Counter) else value for name, value in verdict.items()},
    }


def append(path: Path, line: Line) -> None:
    """Write a round down at once: a run that is stopped keeps its figures."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """The rounds that are written down, by seed; a line that a kill has cut short is none."""
    texts = [path.read_text(encoding="utf-8") for path in paths if path.exists()]
    lines = [json.loads(line) for text in texts for line in text.splitlines() if line.endswith("}")]
    return sorted(lines, key=lambda line: int(line["seed"]))


def told(line: Line) -> list[str]:
    """One round in words."""
    given = sorted(line["answers"].items(), key=lambda pair: -pair[1])
    answers = ", ".join(f"{code} {count}" for code, count in given)
    ends = f"{line['accepted']} accepted, {line['lost']} lost, {line['doubled']} doubled"
    said = [
        f"  {line['requests']} requests in {line['seconds']:.0f} s: {answers}",
        f"  {line['messages']} messages: {ends}, quota difference {line['quota_difference']}",
        f"  excused: charges {line['excused_charges'] or 'none'}, copies {line['excused_copies'] or 'none'}",
    ]
    violations = line["violations"]
    said += [f"  VIOLATION: {violation}" for violation in violations[:20]]
    if len(violations) > 20:
        said.append(f"  … and {len(violations) - 20} more")
    if line["kept"]:
        said.append(f"  logs and violations are kept in {line['kept']}")
    return said


def table(lines: Sequence[Line]) -> str:
    """The figures over all rounds, each excuse, each setup, and each fault with its count and its longest recovery."""

    def total(name: str) -> int:
        return sum(int(line[name]) for line in lines)

    faults = [(kind, name, seconds) for line in lines for kind, name, seconds in line["faults"]]
    injected = Counter((kind, name) for kind, name, _ in faults)
    longest: dict[tuple[str, str], float] = {}
    for kind, name, seconds in faults:
        longest[kind, name] = max(seconds, longest.get((kind, name), 0.0))
    seeds = [line["seed"] for line in lines]
    rows: list[tuple[str, object]] = [
        ("rounds (seeds)", f"{len(lines)} ({min(seeds)} to {max(seeds)})"),
        ("requests", total("requests")),
        ("messages", total("messages")),
        ("faults injected", len(faults)),
        ("accepted", total("accepted")),
        ("left at OUTCOME_UNKNOWN", total("unknown")),
        ("left without an answer", total("unanswered")),
        ("replayed answers", total("replayed")),
        ("retries in other words, answered", total("reworded")),
        ("on the queue once more under the same tracking_id", total("repeated")),
        ("**accepted and lost**", total("lost")),
        ("**doubled**", total("doubled")),
        ("**refused and sent anyway**", total("refused_but_sent")),
        ("**quota difference**", total("quota_difference")),
        *((f"charges excused: {name}", count) for name, count in _summed(lines, "excused_charges")),
        *((f"copies excused: {name}", count) for name, count in _summed(lines, "excused_copies")),
        ("slowest answer", f"{max(line['slowest_seconds'] for line in lines):.1f} s"),
        ("longest recovery", f"{max(longest.values(), default=0.0):.1f} s"),
        ("violations of any kind", sum(len(line["violations"]) for line in lines)),
    ]
    said = ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    said += ["| setup | rounds | faults | violations |", "|---|---|---|---|"]
    for setup in sorted({line["setup"] for line in lines}):
        mine = [line for line in lines if line["setup"] == setup]
        count = sum(len(line["faults"]) for line in mine)
        said.append(f"| {setup} | {len(mine)} | {count} | {sum(len(line['violations']) for line in mine)} |")
    said += ["", "| kind | fault | times | longest recovery |", "|---|---|---|---|"]
    said += [
        f"| {kind} | {name} | {injected[kind, name]} | {longest[kind, name]:.1f} s |"
        for kind, name in sorted(injected)
    ]
    return "\n".join(said)


def _summed(lines: Sequence[Line], name: str) -> list[tuple[str, int]]:
    """Excuses and how often each was needed, over all rounds."""
    counted: Counter[str] = Counter()
    for line in lines:
        counted.update(line[name])
    return sorted(counted.items())
