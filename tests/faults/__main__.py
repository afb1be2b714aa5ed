"""Breaks everything, for as many rounds as one likes: ``python -m tests.faults --seed S --rounds N [--jobs J]``.

A round is an episode under load with about six of the faults; the rounds that follow it go through the other setups and
the other faults. Each is written down in the record when it ends: a run with the same record, seed and rounds goes on
where another was stopped, and ``--table`` sums up what there is.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from tests.faults import record
from tests.faults.episode import failed, play
from tests.faults.faults import FAULTS, KINDS, hand, named
from tests.faults.releases import NotInHistory
from tests.faults.servers import Servers
from tests.faults.setups import SETUPS, Setup, setup_of
from tests.faults.world import Fault
from tests.support.servers import RabbitServer, RedisServer

_ROUND_SECONDS = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a promise was broken, or a lane was."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, help="of the first round; each next one's is one more (default: any)"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="lanes side by side, with servers of their own")
    parser.add_argument("--lane", type=int, help="only every so many rounds' next one, for one of the jobs")
    parser.add_argument(
        "--record", type=Path, help="the file for the figures (default: faults-SEED.jsonl in var/)"
    )
    parser.add_argument("--table", action="store_true", help="run nothing, sum up the record")
    parser.add_argument(
        "--setup", choices=[setup.name for setup in SETUPS], help="only this one (default: by turns)"
    )
    parser.add_argument(
        "--fault", action="append", default=[], help="only this one, each round; may be repeated"
    )
    parser.add_argument("--kind", choices=KINDS, help="all faults of this kind, each round")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, _take_too_long)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if given.seed is None:
        given.seed = random.randrange(10**6)
    if given.record is None:
        given.record = Path("var") / f"faults-{given.seed}.jsonl"
    given.record.parent.mkdir(parents=True, exist_ok=True)
    try:
        for name in given.fault:
            named(name)
    except LookupError as error:
        parser.error(str(error))
    if given.table:
        return _sum_up(given)
    if given.jobs > 1 and given.lane is None:
        codes = _run_lanes(given)
        return max([*codes, _sum_up(given)])
    _run_rounds(given)
    return _sum_up(given) if given.lane is None else 0


def _run_lanes(given: argparse.Namespace) -> list[int]:
    """Run the jobs side by side; returns their exit codes."""
    words = [sys.executable, "-m", "tests.faults", *_words(given)]
    lanes = [subprocess.Popen([*words, "--lane", str(lane)]) for lane in range(given.jobs)]
    try:
        return [lane.wait() for lane in lanes]
    finally:
        for lane in lanes:
            # One that is told to end ends what it has started.
            lane.terminate()
            lane.wait()


def _words(given: argparse.Namespace) -> list[str]:
    words = [f"--seed={given.seed}", f"--rounds={given.rounds}", f"--jobs={given.jobs}"]
    words += [f"--record={given.record}", *(f"--fault={name}" for name in given.fault)]
    if given.kind:
        words.append(f"--kind={given.kind}")
    if given.setup:
        words.append(f"--setup={given.setup}")
    return words


def _run_rounds(given: argparse.Namespace) -> None:
    """Run the rounds of this lane that are not written down yet."""
    done = {line["seed"] for line in record.read([given.record])}
    seeds = range(given.seed, given.seed + given.rounds)[given.lane or 0 :: given.jobs]
    lane = "" if given.lane is None else f"[{given.lane}] "
    with RedisServer() as store, RabbitServer() as broker, Servers(store, broker) as servers:
        for seed in seeds:
            if seed in done:
                continue
            setup = setup_of(seed, given.setup)
            if given.fault or given.kind:
                chosen = [f for f in FAULTS if f.name in given.fault or f.kind == given.kind]
                faults = [fault for fault in chosen if fault.fits(setup)]
            else:
                faults = hand(setup, seed)
            say(
                f"{lane}{time.strftime('%H:%M:%S')} round {seed - given.seed + 1} of {given.rounds}, seed {seed}, "
                f"{setup}: {', '.join(fault.name for fault in faults)}"
            )
            try:
                line = _line_of_round(servers, setup, seed, faults, lambda text: say(lane + text))
            except NotInHistory as missing:
                say(f"{lane}  skipped: {missing}")
                continue
            record.append(given.record, line)
            for text in record.told(line):
                say(lane + text)


def _line_of_round(
    servers: Servers, setup: Setup, seed: int, faults: Sequence[Fault], say: Callable[[str], None]
) -> record.Line:
    """Play it, and once more if the round itself fails: on a busy machine a server may not start in time."""
    reason = ""
    for _ in range(2):
        signal.alarm(_ROUND_SECONDS)
        try:
            return record.line_of(play(servers, setup, seed, faults, say))
        except (RuntimeError, OSError, AssertionError, subprocess.TimeoutExpired) as error:
            reason = f"{type(error).__name__}: {str(error)[:500]}"
        finally:
            signal.alarm(0)
        say(f"  the round itself failed: {reason}")
        servers.heal()
    return record.line_of(failed(setup, seed, reason))


def _take_too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"the round took longer than {_ROUND_SECONDS} s")


def _sum_up(given: argparse.Namespace) -> int:
    lines = record.read([given.record])
    if not lines:
        say(f"no round is written down in {given.record}")
        return 1
    say(record.table(lines))
    return 1 if any(line["violations"] for line in lines) else 0


def say(text: str) -> None:
    """Print at once, however the output is read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
