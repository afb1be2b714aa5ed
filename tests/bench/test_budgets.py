"""Verdicts on figures that are made up."""

from __future__ import annotations

from tests.bench.budgets import MET, MISSED, UNMEASURED, Results, Verdict, judge
from tests.bench.measure import Figures, Row
from tests.bench.memory import Growth
from tests.bench.peers.compare import KANNEL_IN_MEMORY, KANNEL_ON_FILE, OURS, PeerRow
from tests.bench.peers.peer import Promise


def row(
    case: str,
    connections: int = 64,
    *,
    ratio: float = 1.0,
    p50: float = 1.0,
    p99: float = 2.0,
    share: float = 0.1,
) -> Row:
    figures = Figures(1000.0, p50, p99, 100.0)
    return Row(case, connections, figures, figures, ratio, share)


def verdict(results: Results, begins: str, cores: int = 16) -> Verdict:
    (found,) = [one for one in judge(results, cores) if one.budget.startswith(begins)]
    return found


def test_every_budget_has_a_verdict_when_nothing_was_measured() -> None:
    verdicts = judge(Results([]))
    assert len(verdicts) == 16
    assert {one.verdict for one in verdicts} == {UNMEASURED}


def test_cpu_is_judged_at_64_connections() -> None:
    rows = [row("overload", 1, ratio=9), row("overload", ratio=1.3), row("overload", 256, ratio=9)]
    found = verdict(Results(rows), "overload")
    assert (found.verdict, found.figure) == (MET, 1.3)
    assert "1: 9.00, 64: 1.30, 256: 9.00" in found.note


def test_cpu_is_judged_at_the_most_connections_where_there_were_no_64() -> None:
    rows = [row("quota", 1, ratio=2), row("quota", 8, ratio=2.6)]
    assert verdict(Results(rows), "quota").verdict == MISSED


def test_a_case_that_failed_is_not_judged() -> None:
    failed = Row("auth", 64, failure="expected only 401")
    assert verdict(Results([failed]), "auth").verdict == UNMEASURED


def test_latency_is_judged_at_one_connection_and_its_tail_at_64() -> None:
    rows = [row("fresh-key", 1, p50=1.1, p99=99), row("fresh-key", p50=10, p99=50)]
    assert verdict(Results(rows), "fresh-key: p50").verdict == MISSED
    assert verdict(Results(rows), "fresh-key: p99").verdict == MET


def compared(name: str, ratio: float, connections: int = 64) -> PeerRow:
    figures = Figures(1000.0, 1.0, 2.0, 100.0)
    return PeerRow(name, Promise("", "", "", ""), connections, figures, figures, ratio)


def test_a_full_send_is_compared_with_kannel_in_memory_each_by_bare_uvicorn_of_its_own_time() -> None:
    peers = [compared(OURS, 3.6), compared(KANNEL_IN_MEMORY, 4.0), compared(KANNEL_ON_FILE, 4.5)]
    found = verdict(Results([], peers=peers), "a full send")
    assert (found.verdict, found.shown) == (MET, "0.90 ×")
    assert "0.80 × with its store in a file" in found.note
    peers[0] = compared(OURS, 4.1)
    assert verdict(Results([], peers=peers), "a full send").verdict == MISSED


def test_kannel_is_judged_at_64_connections_and_only_where_both_were_measured() -> None:
    peers = [
        compared(OURS, 9.0, 1),
        compared(KANNEL_IN_MEMORY, 1.0, 1),
        compared(OURS, 3.0),
        compared(KANNEL_IN_MEMORY, 4.0),
        compared(OURS, 9.0, 256),
    ]
    assert verdict(Results([], peers=peers), "a full send").verdict == MET
    failed = PeerRow(KANNEL_IN_MEMORY, Promise("", "", "", ""), 64, failure="could not be run: no package")
    assert verdict(Results([], peers=[compared(OURS, 3.0), failed]), "a full send").verdict == UNMEASURED


def test_overhead_is_met_up_to_5_microseconds() -> None:
    assert verdict(Results([], overhead_us=5.0), "five stages").verdict == MET
    assert verdict(Results([], overhead_us=5.1), "five stages").verdict == MISSED


def test_memory_is_judged_after_a_million_requests() -> None:
    enough = Growth(100_000, 1_000_000, 60.0, 64.9)
    assert verdict(Results([], growth=enough), "memory").verdict == MET
    too_few = verdict(Results([], growth=Growth(1000, 10_000, 60.0, 99.0)), "memory")
    assert (too_few.verdict, too_few.figure) == (UNMEASURED, 39.0)


def test_two_workers_are_compared_each_with_bare_uvicorn_of_its_own_time() -> None:
    rows = [row("fresh-key", share=0.1), row("two-workers", share=0.18)]
    found = verdict(Results(rows), "two workers")
    assert (found.verdict, found.shown) == (MET, "1.80 ×")


def test_two_workers_are_not_judged_by_a_machine_that_has_no_core_for_each() -> None:
    rows = [row("fresh-key", share=0.1), row("two-workers", share=0.1)]
    assert verdict(Results(rows), "two workers", cores=2).verdict == UNMEASURED
    assert verdict(Results(rows), "two workers", cores=8).verdict == MISSED
