"""Which gateway has its turn when, and what is said of one that has none. No gateway of somebody else's is run."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace

import pytest

from tests.bench import report
from tests.bench.bare import Bare
from tests.bench.measure import Figures
from tests.bench.peers import compare, jasmin, kannel
from tests.bench.peers.compare import KINDS, Entrant, Kind, PeerRow, Slice
from tests.bench.peers.peer import INSTALL, Promise
from tests.bench.wrk import WrongAnswers

NOWHERE = Bare(0, "")
PROMISE = Promise("on disk", "yes", "no", "none")


def figures(cpu_us: float) -> Figures:
    return Figures(1000.0, 1.0, 2.0, cpu_us)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who had a slice, in order; one of bare uvicorn takes 20 µs a request."""
    had: list[str] = []

    def bare_slice(*arguments: object) -> Figures:
        had.append("bare")
        return figures(20)

    monkeypatch.setattr(compare, "bare_slice", bare_slice)
    return had


def slices(turns: list[str], name: str, *cpu_us: float, error: Exception | None = None) -> Slice:
    """Slices of so much CPU time each; ``error`` after the last."""
    left = list(cpu_us)

    def measured(connections: int, seconds: int) -> tuple[Figures, int, int]:
        turns.append(name)
        if not left:
            raise error or AssertionError
        return figures(left.pop(0)), 10, 11

    return measured


def test_each_has_a_slice_after_one_of_bare_uvicorn_and_the_first_round_does_not_count(
    turns: list[str],
) -> None:
    one = Entrant("one", PROMISE, slices(turns, "one", 999, 40, 60, 50))
    two = Entrant("two", PROMISE, slices(turns, "two", 999, 20, 20, 20))
    compare.alternate(NOWHERE, [one, two], 64, 2, 3)
    assert turns == ["bare", "one", "bare", "two"] * 4
    row = one.row(64)
    assert (row.cpu_ratio, row.accepted, row.stored, row.failure) == (2.5, 30, 33, None)


@pytest.mark.parametrize(
    "error", [WrongAnswers("expected only 202"), RuntimeError("wrk failed"), ConnectionError("refused")]
)
def test_one_that_fails_is_left_out_and_the_others_go_on(turns: list[str], error: Exception) -> None:
    failing = Entrant("failing", PROMISE, slices(turns, "failing", 999, 40, error=error))
    missing = Entrant("missing", PROMISE, slices(turns, "missing"), failure="could not be run: no package")
    other = Entrant("other", PROMISE, slices(turns, "other", 999, 40, 40, 40))
    compare.alternate(NOWHERE, [failing, missing, other], 64, 2, 3)
    assert (turns.count("failing"), turns.count("missing"), turns.count("other")) == (3, 0, 4)
    assert failing.row(64).failure == str(error)
    assert missing.row(64).failure == "could not be run: no package"
    assert other.row(64).cpu_ratio == 2


def test_what_is_not_installed_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(jasmin, "_PROGRAM", jasmin._FOLDER / "none")
    placed: list[int] = []
    with contextlib.ExitStack() as stack:
        failures = [compare._start(kind, stack, placed.append)[1] for kind in KINDS]
    assert placed == []
    for failure in failures:
        assert failure is not None
        assert failure.startswith("could not be run: ")
        assert failure.endswith(INSTALL)


def test_what_does_not_start_is_told_with_the_reason() -> None:
    def serving() -> contextlib.AbstractContextManager[kannel.Kannel]:
        raise RuntimeError("Kannel did not start; its log ends in:\nport in use")

    with contextlib.ExitStack() as stack:
        _, failure = compare._start(Kind("broken", PROMISE, serving), stack, lambda pid: None)
    assert failure == "could not be run: Kannel did not start; its log ends in:\nport in use"


def test_the_table_has_bare_uvicorn_and_a_line_for_each_that_has_figures_or_has_none() -> None:
    good = PeerRow("good", PROMISE, 64, figures(20), figures(50), 2.5, 10, 11)
    with_servers = replace(
        good, name="with servers", figures=replace(figures(50), redis_cpu_us=30.4, rabbitmq_cpu_us=40.6)
    )
    missing = PeerRow("missing", PROMISE, 64, failure="could not be run: its log ends in:\na | b")
    heading, _, *lines = report.peers_table([good, with_servers, missing]).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| bare uvicorn | 64 | 20 | 1.00 | – | 1,000 |")
    assert lines[1] == "| good | 64 | 50 | 2.50 | – | 1,000 | 1.00 | 2.00 | on disk | yes | no | none |"
    assert "| 30 + 41 |" in lines[2]
    assert lines[3].startswith("| missing | 64 | could not be run: its log ends in: a / b |")
    assert {line.count("|") for line in lines} == {heading.count("|")}
