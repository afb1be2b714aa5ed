"""The gateway broken on purpose, one way at a time: each has to be caught.

``python -m tests.faults.breakages [NAME …]`` tries those that are named, or all.

A breakage is a small change to the source, made in a copy of it; two gateways of that copy go through a round with the
faults that should bring it to light, and the judge has to complain. Prints a table in Markdown: breakage, caught by.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO

from tests.faults.breakage_list import BREAKAGES, Breakage
from tests.faults.episode import play
from tests.faults.faults import named
from tests.faults.releases import ROOT
from tests.faults.servers import Servers
from tests.faults.setups import Setup
from tests.faults.setups import named as named_setup
from tests.support.servers import RabbitServer, RedisServer

_PACKAGES = ("gateway", "pipeline", "schemas", "tests")
# Another draw of the load and of the moments: what a fault shows is partly chance.
_ATTEMPTS = 6
_FIRST_SEED = 7000
_GATE_FIRST = ("auth", "validation", "provider_gate", "idempotency", "quota")


class Outcome(NamedTuple):
    """What became of a breakage: by which complaint it was caught, or None; after how many rounds and seconds."""

    breakage: Breakage
    complaint: str | None
    rounds: int
    seconds: float


def copied(into: Path, breakage: Breakage) -> Path:
    """A copy of the source with this breakage. Raises ValueError when the source has changed and it does not fit."""
    for package in _PACKAGES:
        shutil.copytree(
            ROOT / package, into / package, ignore=shutil.ignore_patterns("__pycache__", "bench", "unit")
        )
    file = into / breakage.file
    text = file.read_text(encoding="utf-8")
    if text.count(breakage.sound) != 1:
        found = text.count(breakage.sound)
        raise ValueError(
            f"'{breakage.name}': what it changes in {breakage.file} stands there {found} times: set it anew"
        )
    file.write_text(text.replace(breakage.sound, breakage.broken), encoding="utf-8")
    return into


def tried(servers: Servers, breakage: Breakage) -> Outcome:
    """Run rounds with this breakage until one is complained of."""
    began = time.monotonic()
    faults, setup = [named(name) for name in breakage.faults], _setup_of(breakage)
    with tempfile.TemporaryDirectory(prefix="breakage-", ignore_cleanup_errors=True) as directory:
        root = copied(Path(directory), breakage)
        for attempt in range(_ATTEMPTS):
            seed = _FIRST_SEED + attempt
            try:
                episode = play(servers, setup, seed, faults, root=root)
            except (RuntimeError, OSError, AssertionError, subprocess.TimeoutExpired) as error:
                say(f"a round of '{breakage.name}' failed by itself: {str(error)[:200]!r}", sys.stderr)
                continue
            if episode.kept is not None:
                shutil.rmtree(episode.kept, ignore_errors=True)
            complaint = _first_of(episode.verdict.violations, breakage.caught_by)
            if complaint is not None:
                return Outcome(breakage, complaint, attempt + 1, time.monotonic() - began)
    return Outcome(breakage, None, _ATTEMPTS, time.monotonic() - began)


def _setup_of(breakage: Breakage) -> Setup:
    found = named_setup(breakage.setup)
    return replace(found, order=_GATE_FIRST) if found.name == "order" else found


def _first_of(violations: Sequence[str], expected: str) -> str | None:
    """How many complaints there are of the kind that was expected, and the first of them without its particulars."""
    fitting = [violation for violation in violations if expected in violation]
    if not fitting:
        return None
    words = re.sub(r" \[[^]]*\]|^(?:message \d+|client \w+)[^:]*: ", "", fitting[0])
    return f"{len(fitting)} × {words[:100]}"


def main(names: Sequence[str]) -> int:
    """Returns 1 when a breakage was not caught."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chosen = [breakage for breakage in BREAKAGES if not names or breakage.name in names]
    missed = 0
    say("| change to the gateway | setup and faults | rounds | caught by |\n|---|---|---|---|")
    with RedisServer() as store, RabbitServer() as broker, Servers(store, broker) as servers:
        for breakage in chosen:
            outcome = tried(servers, breakage)
            missed += outcome.complaint is None
            say(
                f"| {breakage.name} | {breakage.setup}: {', '.join(breakage.faults)} | {outcome.rounds} | "
                f"{outcome.complaint or '**nothing**'} |"
            )
    return 1 if missed else 0


def say(text: str, to: TextIO = sys.stdout) -> None:
    """Print at once, however the output is read."""
    to.write(text + "\n")
    to.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
