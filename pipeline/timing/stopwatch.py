"""Each stage's own time, read where stages hand over: a frame of the call stack for it would cost each request more.

A request runs from stage to stage and its answer back. A stage's time begins when it is entered, stops when it enters
the next one, and goes on while it holds the answer of the one inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol


class Lap(Protocol):
    """A stage whose time is measured."""

    @property
    def stage(self) -> str:
        """Its name, as operators write it."""

    @property
    def observe(self) -> Callable[[float], None]:
        """Takes its seconds, once for each request."""


class Stopwatch:
    """Of one request, which arrived at ``arrived`` (of ``time.perf_counter``).

    ``laps`` holds the stages that the request is in, outermost first: each with when it was entered, and for how many
    seconds it was left since.
    """

    __slots__ = ("_deepest", "arrived", "laps")

    def __init__(self) -> None:
        self.arrived = perf_counter()
        self.laps: list[tuple[Lap, float, float]] = []
        self._deepest: Lap | None = None

    @property
    def deepest(self) -> Lap | None:
        """The stage that was entered last: only there is a request refused."""
        return self._deepest or (self.laps[-1][0] if self.laps else None)

    def back_here(self) -> Callable[[], None]:
        """What the stage that was entered last calls when the request is back in it, with an answer or a failure."""
        return partial(self._resume, self.deepest)

    def _resume(self, lap: Lap | None) -> None:
        self._deepest = self.deepest
        now = end = perf_counter()
        while self.laps:
            last, entered, left_seconds = self.laps.pop()
            if last is lap:
                self.laps.append((last, entered, left_seconds + now - end))
                return
            last.observe(end - entered - left_seconds)
            end = entered

    def stop(self) -> None:
        """The request is over: tell each stage its time."""
        end = perf_counter()
        for lap, entered, left_seconds in reversed(self.laps):
            lap.observe(end - entered - left_seconds)
            end = entered
