"""Cuts the power, as often as one likes: ``python -m tests.power --rounds N --seed S [--subject NAME]``.

A round is a cut. After every five a subject begins anew on an empty disk.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.power.episode import Figures, MakeSubject, play
from tests.power.machine import machine, what_is_lacking
from tests.power.subjects import Embedded, Rabbit, Redis, Spool, Subject
from tests.support.servers import RabbitServer

CUTS_OF_A_DISK = 5

SUBJECTS: dict[str, tuple[type[Subject], dict[str, Any]]] = {
    "embedded": (Embedded, {"workers": 1}),
    "embedded-2-workers": (Embedded, {"workers": 2}),
    "spool": (Spool, {"workers": 1}),
    "spool-2-workers": (Spool, {"workers": 2}),
    "redis-everysec": (Redis, {"appendfsync": "everysec"}),
    "redis-always": (Redis, {"appendfsync": "always"}),
    "rabbitmq-quorum": (Rabbit, {"queue_type": "quorum"}),
    "rabbitmq-classic": (Rabbit, {"queue_type": "classic"}),
    "rabbitmq-quorum-names-too": (Rabbit, {"queue_type": "quorum"}),
    "rabbitmq-classic-names-too": (Rabbit, {"queue_type": "classic"}),
}

_COLUMNS = (
    ("cuts", "cuts"),
    ("in the start after one", "cuts_in_the_start"),
    ("that lost something", "bit"),
    ("accepted", "accepted"),
    ("**lost**", "lost"),
    ("**doubled**", "doubled"),
    ("under the same tracking_id again", "repeated"),
    ("asked for again", "replays"),
    ("forgotten", "forgotten"),
    ("charges missing", "charges_missing"),
    ("repaired by hand", "repaired"),
    ("would not start again", "dead"),
    ("checkpoints", "checkpoints"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.power",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=CUTS_OF_A_DISK, help="cuts of each subject")
    parser.add_argument(
        "--seed", type=int, help="of the first disk; each next one's is one more (default: any)"
    )
    parser.add_argument("--subject", action="append", choices=SUBJECTS, help="only this one; may be repeated")
    given = parser.parse_args(arguments)
    if lacking := what_is_lacking():
        parser.error(lacking)
    first = random.randrange(10**6) if given.seed is None else given.seed
    figures: dict[str, Figures] = {}
    with ExitStack() as stack:
        chosen = given.subject or list(SUBJECTS)
        rabbit = None
        if any(SUBJECTS[name][0] is Spool for name in chosen):
            rabbit = stack.enter_context(RabbitServer())
        for name in chosen:
            figures[name] = Figures()
            for disk, begun in enumerate(range(0, given.rounds, CUTS_OF_A_DISK)):
                cuts = min(CUTS_OF_A_DISK, given.rounds - begun)
                one = round_of(name, first + disk, cuts, rabbit)
                say(f"{name}, seed {first + disk}: {one}")
                figures[name].add(one)
    say(table(figures))
    return 1 if any(is_broken(one) for one in figures.values()) else 0


def round_of(name: str, seed: int, cuts: int, rabbit: RabbitServer | None) -> Figures:
    """The life of one disk of this subject."""
    kind, options = SUBJECTS[name]
    make: MakeSubject = functools.partial(kind, **options, **_of_spool(kind, rabbit))
    names_too = name.endswith("names-too")
    with (
        tempfile.TemporaryDirectory(prefix=f"power-{name}-") as directory,
        machine(Path(directory), kind.room_mib, names_too=names_too) as computer,
    ):
        return play(make, computer, Path(directory), seed, cuts)


def _of_spool(kind: type[Subject], rabbit: RabbitServer | None) -> dict[str, Any]:
    """What it needs besides: a RabbitMQ that stays."""
    return {"rabbit": rabbit} if kind is Spool else {}


def is_broken(figures: Figures) -> bool:
    """Whether a promise was."""
    return bool(
        figures.lost
        or figures.doubled
        or figures.dead
        or figures.refused_but_sent
        or figures.charges_too_many
        or figures.violations
    )


def table(figures: dict[str, Figures]) -> str:
    """In Markdown."""
    head = ["subject", *(title for title, _ in _COLUMNS)]
    lines = ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, one in figures.items():
        cells = [name, *(str(getattr(one, attribute)) for _, attribute in _COLUMNS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once, however the output is read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
