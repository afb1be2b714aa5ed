"""Measures the gateway against bare uvicorn in one run: ``python -m tests.bench``.

Redis, RabbitMQ, the gateway and bare uvicorn are started, and wrk loads the two in turn. Every 202 that it counts is
looked for on the queue. Linux only, since CPU times are read as Linux keeps them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.bench import report, wrk
from tests.bench.budgets import judge
from tests.bench.cases import BROKER_CASES, CASES
from tests.bench.processes import IS_LINUX, LINUX_ONLY
from tests.bench.profile import profile
from tests.bench.run import OVERHEAD, Plan, about, chosen, run
from tests.support.servers import RabbitServer, RedisServer, ServerMissing

# A request that is held in flight lasts 10 s at the most.
_MOST_SECONDS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a case failed: there were other answers than expected, or a 202 was not on the queue."""
    parser = _parser()
    words = sys.argv[1:] if arguments is None else list(arguments)
    given = parser.parse_args(words)
    if not IS_LINUX:
        parser.error(LINUX_ONLY)
    try:
        plan = plan_of(given)
        wrk.program()
        # As by Ctrl-C, so that everything that was started is ended.
        signal.signal(signal.SIGTERM, _interrupt)
        with RedisServer() as store, RabbitServer() as broker:
            if given.profile:
                profile(plan.connections[-1], plan.seconds, store, broker, say)
                return 0
            said = about(plan, broker, shlex.join(["python", "-m", "tests.bench", *words]))
            say(f"{report.heading(said)}\n\nabout {plan.seconds_of_load() / 60:.0f} minutes of load")
            results = run(plan, store, broker, say)
    except (LookupError, ServerMissing) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    verdicts = [] if given.broker else judge(results)
    say(f"\n{report.heading(said)}")
    if results.peers:
        say(f"\n{report.peers_table(results.peers)}")
    if results.rows:
        say(f"\n{report.rows_table(results.rows)}")
    if verdicts:
        say(f"\n{report.verdicts_table(verdicts)}")
    if given.json is not None:
        found = report.document(said, results, verdicts)
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    failures = [row.failure for row in results.rows] + [row.failure for row in results.ours_beside_peers()]
    return 1 if any(failures) else 0


def plan_of(given: argparse.Namespace) -> Plan:
    """What the options ask for. Raises ``LookupError`` for a case that there is not."""
    if given.profile:
        return Plan((), given.connections or (64,), given.seconds or 8)
    if given.broker:
        return Plan(
            BROKER_CASES,
            given.connections or (1, 16, 64),
            given.seconds or 3,
            given.rounds or 3,
            0,
            own_core=given.own_core,
        )
    cases = chosen(given.case)
    batches = 15 if not given.case or OVERHEAD in given.case else 0
    if given.short:
        return Plan(
            cases,
            given.connections or (8,),
            1,
            1,
            min(batches, 3),
            1000,
            given.memory,
            given.own_core,
            given.peers,
        )
    return Plan(
        cases,
        given.connections or (1, 16, 64, 256),
        given.seconds or 2,
        given.rounds or 3,
        batches,
        memory_requests=given.memory,
        own_core=given.own_core,
        peers=given.peers,
    )


def say(text: str) -> None:
    """Print at once, however the output is read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog="cases:\n" + "\n".join(f"  {case.name:18}{case.meaning}" for case in CASES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--case", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--connections", type=_numbers, help="how many at once (default: 1,16,64,256)")
    parser.add_argument(
        "--seconds", type=int, choices=range(1, _MOST_SECONDS + 1), help="of a slice (default: 2)"
    )
    parser.add_argument("--rounds", type=int, help="slices of each contender (default: 3)")
    parser.add_argument(
        "--own-core",
        action="store_true",
        help="a core for bare uvicorn and the gateway in turn, the others for the rest: less noise",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="other gateways in turn with ours too: Kannel and Jasmin, by `sh tests/bench/install-peers.sh`",
    )
    parser.add_argument("--short", action="store_true", help="a minute in all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    parser.add_argument(
        "--memory", type=int, default=0, metavar="N", help="send N requests and see how memory grows"
    )
    parser.add_argument(
        "--broker", action="store_true", help="the CPU of RabbitMQ on quorum and classic queues instead"
    )
    parser.add_argument(
        "--profile", action="store_true", help="where the time of a full send goes instead; needs py-spy"
    )
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
