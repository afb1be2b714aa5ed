"""The budgets, and whether a run has kept them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.measure import Row
from tests.bench.memory import Growth
from tests.bench.peers.compare import KANNEL_IN_MEMORY, KANNEL_ON_FILE, OURS, OURS_WITHOUT_KEY, PeerRow

MET = "met"
MISSED = "not met"
UNMEASURED = "not measured"

_USUAL = 64
_MILLION = 1_000_000

# Of bare uvicorn's CPU time per request, at most.
_CPU_RATIOS = {
    "fresh-key": 3.5,
    "no-key": 2.8,
    "replay": 2.5,
    "auth": 2.5,
    "key-reused": 2.5,
    "key-in-progress": 2.5,
    "validation": 2.5,
    "provider-gate": 2.5,
    "quota": 2.5,
    "overload": 1.3,
}


@dataclass(frozen=True)
class Verdict:
    """A budget and what became of it. ``figure`` is in the budget's own unit, None where it was not measured."""

    budget: str
    figure: float | None
    shown: str
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Results:
    """All that was measured. ``overhead_us`` is that of five stages that do nothing."""

    rows: Sequence[Row]
    overhead_us: float | None = None
    growth: Growth | None = None
    peers: Sequence[PeerRow] = ()

    def ours_beside_peers(self) -> list[PeerRow]:
        """The rows of this gateway among those of the others."""
        return [row for row in self.peers if row.name in (OURS, OURS_WITHOUT_KEY)]

    def of(self, case: str) -> Mapping[int, Row]:
        """The rows of a case that came to figures, by their connections."""
        return {row.connections: row for row in self.rows if row.case == case and row.failure is None}


def judge(results: Results, cores: int | None = None) -> list[Verdict]:
    """Every budget in turn; ``cores`` are those of this machine."""
    return [
        *(_cpu(results.of(case), case, most) for case, most in _CPU_RATIOS.items()),
        _kannel(results.peers),
        _overhead(results.overhead_us),
        _tail(results.of("fresh-key")),
        _latency(results.of("fresh-key")),
        _memory(results.growth),
        _scaling(results, cores or os.cpu_count() or 1),
    ]


def _cpu(rows: Mapping[int, Row], case: str, most: float) -> Verdict:
    budget = f"{case}: CPU at most {most:g} × bare uvicorn"
    row = _usual(rows)
    if row is None:
        return _unmeasured(budget)
    others = ", ".join(f"{connections}: {rows[connections].cpu_ratio:.2f}" for connections in sorted(rows))
    note = f"at {row.connections} connections; each by itself: {others}"
    return _verdict(budget, row.cpu_ratio, f"{row.cpu_ratio:.2f} ×", row.cpu_ratio <= most, note)


def _kannel(peers: Sequence[PeerRow]) -> Verdict:
    budget = "a full send: no more CPU than Kannel's"
    ratios = {(row.name, row.connections): row.cpu_ratio for row in peers if row.figures is not None}
    both = [at for name, at in ratios if name == OURS and (KANNEL_IN_MEMORY, at) in ratios]
    if not both:
        return _unmeasured(budget, "--peers does it, where Kannel is installed")
    connections = _USUAL if _USUAL in both else max(both)
    ours = ratios[OURS, connections]
    # Each against bare uvicorn at its own time, since the machine's speed drifts.
    figure = ours / ratios[KANNEL_IN_MEMORY, connections]
    note = f"at {connections} connections, against Kannel in memory"
    if on_file := ratios.get((KANNEL_ON_FILE, connections)):
        note += f"; {ours / on_file:.2f} × with its store in a file"
    return _verdict(budget, figure, f"{figure:.2f} ×", figure <= 1, note)


def _overhead(figure: float | None) -> Verdict:
    budget = "five stages that do nothing: at most 5 µs"
    if figure is None:
        return _unmeasured(budget)
    return _verdict(budget, figure, f"{figure:.2f} µs", figure <= 5, "in one process, without HTTP")


def _tail(rows: Mapping[int, Row]) -> Verdict:
    budget = f"fresh-key: p99 at most 5 × p50 at {_USUAL} connections"
    row = rows.get(_USUAL)
    if row is None or row.gateway is None:
        return _unmeasured(budget)
    figure = row.gateway.p99_ms / row.gateway.p50_ms
    note = f"p50 {row.gateway.p50_ms:.1f} ms, p99 {row.gateway.p99_ms:.1f} ms"
    return _verdict(budget, figure, f"{figure:.2f} ×", figure <= 5, note)


def _latency(rows: Mapping[int, Row]) -> Verdict:
    budget = "fresh-key: p50 at most 1 ms at one connection"
    row = rows.get(1)
    if row is None or row.gateway is None:
        return _unmeasured(budget)
    figure = row.gateway.p50_ms
    return _verdict(budget, figure, f"{figure:.2f} ms", figure <= 1)


def _memory(growth: Growth | None) -> Verdict:
    budget = "memory: less than 5 MiB more after 1,000,000 requests than after 100,000"
    if growth is None:
        return _unmeasured(budget, "--memory 1000000 does it; it takes minutes")
    note = (
        f"{growth.early_mib:.1f} MiB after {growth.early:,}, {growth.mib:.1f} MiB after {growth.requests:,}"
    )
    shown = f"{growth.grown_mib:.1f} MiB"
    if growth.requests < _MILLION:
        return Verdict(budget, growth.grown_mib, shown, UNMEASURED, f"too few requests to judge: {note}")
    return _verdict(budget, growth.grown_mib, shown, growth.grown_mib < 5, note)


def _scaling(results: Results, cores: int) -> Verdict:
    budget = "two workers: at least 1.7 × the requests/s of one"
    one, two = _usual(results.of("fresh-key")), _usual(results.of("two-workers"))
    if one is None or two is None or one.gateway is None or two.gateway is None:
        return _unmeasured(budget)
    # Each against bare uvicorn at its own time, since the machine's speed drifts.
    figure = two.throughput_ratio / one.throughput_ratio
    note = f"CPU per request {one.gateway.cpu_us:.0f} µs with one, {two.gateway.cpu_us:.0f} µs with two"
    shown = f"{figure:.2f} ×"
    # Two workers, and wrk, Redis and RabbitMQ beside them.
    if figure < 1.7 and cores < 5:
        return Verdict(
            budget,
            figure,
            shown,
            UNMEASURED,
            f"{cores} cores, shared with wrk, Redis and RabbitMQ, cannot show it; {note}",
        )
    return _verdict(budget, figure, shown, figure >= 1.7, note)


def _usual(rows: Mapping[int, Row]) -> Row | None:
    """At 64 connections, or else at the most that there are."""
    return rows.get(_USUAL) or (rows[max(rows)] if rows else None)


def _verdict(budget: str, figure: float, shown: str, is_met: bool, note: str = "") -> Verdict:
    return Verdict(budget, figure, shown, MET if is_met else MISSED, note)


def _unmeasured(budget: str, note: str = "") -> Verdict:
    return Verdict(budget, None, "–", UNMEASURED, note)
