"""A run: which cases, at how many connections, for how long; and all of them one after the other."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.bench import bare, machine, memory, overhead
from tests.bench.bare import Bare
from tests.bench.budgets import Results
from tests.bench.cases import CASES, Case
from tests.bench.contenders import running
from tests.bench.measure import Row, alternate
from tests.bench.peers import compare
from tests.bench.peers.compare import PeerRow
from tests.bench.processes import all_but_one_core, keep_on
from tests.support.servers import RabbitServer, RedisServer

OVERHEAD = "pipeline-overhead"
"""The name of the case that needs no load."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be measured. Slices last ``seconds``, and each of ``rounds`` has one of each contender.

    With ``own_core`` bare uvicorn and the gateway, unless it has several workers, have one core in turn, and everything
    else has the others. ``overhead_batches`` and ``memory_requests`` may be 0: then it is left out. With ``peers``
    other gateways are measured beside ours.
    """

    cases: Sequence[Case] = CASES
    connections: Sequence[int] = (1, 16, 64, 256)
    seconds: int = 2
    rounds: int = 3
    overhead_batches: int = 15
    overhead_calls: int = 5000
    memory_requests: int = 0
    own_core: bool = False
    peers: bool = False

    def seconds_of_load(self) -> int:
        """How long it takes at least, without what is started in between."""
        of_cases = len(self.cases) * (self.rounds * self.seconds * 2 + 1)
        of_peers = (len(compare.KINDS) + 2) * (self.rounds * self.seconds * 2 + 2) if self.peers else 0
        return len(self.connections) * (of_cases + of_peers)


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names; all of them for none. Raises ``LookupError``."""
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known and name != OVERHEAD]
    if unknown:
        raise LookupError(f"no case is called '{unknown[0]}': there are {', '.join([*known, OVERHEAD])}")
    return tuple(known[name] for name in names if name in known) if names else CASES


def run(plan: Plan, store: RedisServer, broker: RabbitServer, say: Say) -> Results:
    """Measure everything that is planned, and say each step's outcome when it is known."""
    overhead_us = None
    if plan.overhead_batches:
        overhead_us = overhead.measure(plan.overhead_batches, plan.overhead_calls)
        say(f"five stages that do nothing: {overhead_us:.2f} µs")
    rows = []
    for number, row in enumerate(_rows(plan, store, broker), 1):
        say(f"{number}/{len(plan.cases) * len(plan.connections)} {_summary(row)}")
        rows.append(row)
    peers = []
    for compared in _peers(plan, store, broker) if plan.peers else ():
        say(_compared(compared))
        peers.append(compared)
    growth = None
    if plan.memory_requests:
        growth = memory.measure(plan.memory_requests, store, broker, say)
    return Results(rows, overhead_us, growth, peers)


def about(plan: Plan, broker: RabbitServer, command: str) -> dict[str, Any]:
    """What the run was made on, of and by."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": machine.revision(),
        "command": command,
        "machine": machine.machine(),
        "versions": {**machine.versions(broker), **(compare.versions() if plan.peers else {})},
        "seconds": plan.seconds,
        "rounds": plan.rounds,
    }


def _rows(plan: Plan, store: RedisServer, broker: RabbitServer) -> Iterator[Row]:
    with _reference(plan) as (reference, place):
        for setup, cases in itertools.groupby(plan.cases, key=lambda case: case.setup):
            with running(setup, store, broker) as contender:
                if setup.workers == 1:
                    place(contender.pid)
                elif plan.own_core:
                    keep_on(contender.pid, range(os.cpu_count() or 1))
                for case, connections in itertools.product(list(cases), plan.connections):
                    contender.prepare(case)
                    yield alternate(case, reference, contender, connections, plan.seconds, plan.rounds)


def _peers(plan: Plan, store: RedisServer, broker: RabbitServer) -> Iterable[PeerRow]:
    with _reference(plan) as (reference, place):
        yield from compare.compare(
            reference, plan.connections, plan.seconds, plan.rounds, store, broker, place
        )


@contextlib.contextmanager
def _reference(plan: Plan) -> Iterator[tuple[Bare, Callable[[int], None]]]:
    """Bare uvicorn, and what puts another process where it is: on a core of their own, if that is planned."""
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(bare.serving())
        core = stack.enter_context(all_but_one_core()) if plan.own_core else None

        def place(pid: int) -> None:
            if core is not None:
                keep_on(pid, [core])

        place(reference.pid)
        yield reference, place


def _compared(row: PeerRow) -> str:
    at = f"{row.name} at {row.connections}:"
    if row.figures is None:
        return f"{at} {row.failure}"
    return (
        f"{at} {row.figures.requests_per_second:,.0f} req/s, CPU {row.figures.cpu_us:.0f} µs "
        f"= {row.cpu_ratio:.2f} × bare"
    )


def _summary(row: Row) -> str:
    at = f"{row.case} at {row.connections}:"
    if row.gateway is None:
        return f"{at} FAILED: {row.failure}"
    return (
        f"{at} {row.gateway.requests_per_second:,.0f} req/s, p50 {row.gateway.p50_ms:.2f} ms, "
        f"p99 {row.gateway.p99_ms:.2f} ms, CPU {row.gateway.cpu_us:.0f} µs = {row.cpu_ratio:.2f} × bare"
    )
