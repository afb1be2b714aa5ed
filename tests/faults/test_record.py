"""The record of a run: a stopped run keeps its figures, and the table adds them up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults import record
from tests.faults.episode import Episode, failed
from tests.faults.faults import named
from tests.faults.oracle import Verdict
from tests.faults.setups import PLAIN


def line(seed: int, **figures: int) -> record.Line:
    verdict = Verdict(**figures, excused_charges=Counter({"died": seed}))  # type: ignore[arg-type]
    return record.line_of(Episode(seed, PLAIN, verdict, [(named("redis-killed"), 1.5 * seed)]))


def test_what_is_written_down_is_read_again_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    for seed in (2, 1):
        record.append(path, line(seed, accepted=10 * seed))
    assert [(found["seed"], found["accepted"]) for found in record.read([path])] == [(1, 10), (2, 20)]


def test_a_line_that_a_kill_has_cut_short_is_no_round(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    record.append(path, line(1))
    with path.open("a") as file:
        file.write('{"seed": 2, "accep')
    assert [found["seed"] for found in record.read([path])] == [1]


def test_the_table_adds_up() -> None:
    table = record.table([line(1, accepted=10), line(2, accepted=20)])
    assert "| rounds (seeds) | 2 (1 to 2) |" in table
    assert "| accepted | 30 |" in table
    assert "| charges excused: died | 3 |" in table
    assert "| store | redis-killed | 2 | 3.0 s |" in table
    assert "| plain | 2 | 2 | 0 |" in table


def test_a_round_that_failed_by_itself_is_no_clean_one() -> None:
    assert record.line_of(failed(PLAIN, 1, "no server"))["violations"] == [
        "the round itself failed: no server"
    ]
