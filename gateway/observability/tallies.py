"""Counters and histograms that cost next to nothing to add to, carried over to prometheus_client from time to time.

There each addition takes a lock, looks for its bucket and, with several workers, writes to a file: several microseconds
for what a request does a dozen times. Here it is one appended number. What is carried over is what the library would
have counted itself; it is done before every scrape, and every second for the scrapes of other workers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

Observe = Callable[[float], None]


class CounterTally:
    """Counts for one counter without labels, or for one child of a counter."""

    def __init__(self, child: Counter) -> None:
        self._child = child
        self._count = 0

    def inc(self) -> None:
        """Count one."""
        self._count += 1

    def carry_over(self) -> None:
        """Hand over what was counted since the last time."""
        if self._count:
            self._child.inc(self._count)
            self._count = 0


class TotalTally:
    """A counter that follows a total which is kept elsewhere."""

    def __init__(self, child: Counter, look: Callable[[], int]) -> None:
        self._child = child
        self._look = look
        self._total = 0

    def carry_over(self) -> None:
        """Hand over by how much it has grown."""
        total = self._look()
        self._child.inc(total - self._total)
        self._total = total


class GaugeTally:
    """A gauge that follows a value which is kept elsewhere."""

    def __init__(self, child: Gauge, look: Callable[[], float]) -> None:
        self._child = child
        self._look = look

    def carry_over(self) -> None:
        """Hand over the value."""
        self._child.set(self._look())


class HistogramTally:
    """Observations for one histogram without labels, or for one child of a histogram."""

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._seen: list[float] = []
        self.observe: Observe = self._seen.append

    def carry_over(self) -> None:
        """Hand over what was observed since the last time."""
        if not self._seen:
            return
        # What the library's own ``observe`` touches; a property test holds the two to the same result.
        bounds = self._child._upper_bounds
        for bucket, count in Counts(bisect_left(bounds, amount) for amount in self._seen).items():
            self._child._buckets[bucket].inc(count)
        self._child._sum.inc(sum(self._seen))
        self._seen.clear()


class Tallies(Collector):
    """All tallies of a registry, where it is registered first: it carries over before every collection."""

    def __init__(self) -> None:
        self._all: list[CounterTally | TotalTally | GaugeTally | HistogramTally] = []

    def counter(self, child: Counter) -> CounterTally:
        """A tally for it."""
        tally = CounterTally(child)
        self._all.append(tally)
        return tally

    def watch(self, child: Counter, look: Callable[[], int]) -> None:
        """Let it follow the total that ``look`` gives."""
        self._all.append(TotalTally(child, look))

    def gauge(self, child: Gauge, look: Callable[[], float]) -> None:
        """Let it follow the value that ``look`` gives."""
        self._all.append(GaugeTally(child, look))

    def histogram(self, child: Histogram) -> Observe:
        """Takes what is observed."""
        tally = HistogramTally(child)
        self._all.append(tally)
        return tally.observe

    def carry_over(self) -> None:
        """Hand over everything."""
        for tally in self._all:
            tally.carry_over()

    def collect(self) -> Iterable[Metric]:
        """Nothing of its own: see ``prometheus_client.registry.Collector``."""
        self.carry_over()
        return ()

    def describe(self) -> Iterable[Metric]:
        """Nothing, without collecting."""
        return ()
