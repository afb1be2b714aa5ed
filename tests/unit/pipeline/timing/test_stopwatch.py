"""Each stage's own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pipeline.timing import stopwatch as module
from pipeline.timing.stopwatch import Stopwatch


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass(eq=False)
class Named:
    """A stage that remembers its times."""

    stage: str
    seen: list[float] = field(default_factory=list)

    @property
    def observe(self) -> Callable[[float], None]:
        return self.seen.append


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter", clock.perf_counter)
    return clock


def enter(stopwatch: Stopwatch, stage: Named, clock: Clock) -> None:
    """As ``pipeline.stage.Timed`` does."""
    stopwatch.laps.append((stage, clock.now, 0.0))


def test_a_stages_time_ends_where_the_next_one_begins(clock: Clock) -> None:
    """The innermost has the rest. Nothing before the first counts."""
    outer, inner = Named("outer"), Named("inner")
    stopwatch = Stopwatch()
    clock.now = 5.0
    enter(stopwatch, outer, clock)
    clock.now += 1.0
    enter(stopwatch, inner, clock)
    clock.now += 16.0
    stopwatch.stop()
    assert (outer.seen, inner.seen) == ([1.0], [16.0])


def test_a_stage_that_gets_the_answer_back_goes_on(clock: Clock) -> None:
    """What it does before and after those inside it is one time, theirs not among it."""
    outer, holding, inner, innermost = Named("outer"), Named("holding"), Named("inner"), Named("innermost")
    stopwatch = Stopwatch()
    enter(stopwatch, outer, clock)
    clock.now += 1.0
    enter(stopwatch, holding, clock)
    back_here = stopwatch.back_here()
    clock.now += 2.0
    enter(stopwatch, inner, clock)
    clock.now += 4.0
    enter(stopwatch, innermost, clock)
    clock.now += 8.0
    back_here()
    assert (inner.seen, innermost.seen) == ([4.0], [8.0])
    clock.now += 16.0
    stopwatch.stop()
    assert holding.seen == [18.0]
    assert outer.seen == [1.0]
    assert stopwatch.deepest is innermost


def test_two_may_get_it_back_one_after_the_other(clock: Clock) -> None:
    """From the inside to the outside."""
    outer, inner = Named("outer"), Named("inner")
    stopwatch = Stopwatch()
    enter(stopwatch, outer, clock)
    back_outside = stopwatch.back_here()
    clock.now += 1.0
    enter(stopwatch, inner, clock)
    back_inside = stopwatch.back_here()
    clock.now += 2.0
    back_inside()
    clock.now += 4.0
    back_outside()
    clock.now += 8.0
    stopwatch.stop()
    assert (outer.seen, inner.seen) == ([9.0], [6.0])


def test_a_request_that_enters_no_stage_tells_none(clock: Clock) -> None:
    """As one to another path."""
    stopwatch = Stopwatch()
    stopwatch.back_here()()
    stopwatch.stop()
    assert stopwatch.deepest is None
