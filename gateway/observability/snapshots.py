"""What each worker has counted, where all of them can read it: one scrape, of whichever worker, adds it up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from prometheus_client import Metric
from prometheus_client.registry import Collector

from gateway.observability.shared_memory import Slot

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample, and its labels with their values."""
Families = dict[str, dict[Sample, float]]
"""The values of samples, by the name of their family."""
Rows = list[tuple[str, list[tuple[str, list[tuple[str, str]], float]]]]
"""The same, as it is written."""

_CREATED = "_created"


class Snapshots:
    """One slot for each worker. Made by the supervisor, before it starts any."""

    def __init__(self, workers: int) -> None:
        self._slots = [Slot() for _ in range(workers)]

    def share(self, place: int) -> Share:
        """What the worker in this place, counted from 0, writes to and reads from."""
        return Share(self._slots[place], [slot for slot in self._slots if slot is not self._slots[place]])

    def forget_live(self, place: int) -> None:
        """The worker in this place has ended: what it has counted stays, what it was doing is over."""
        totals, _ = _read(self._slots[place])
        _write(self._slots[place], totals, [])


class Share:
    """One worker's own slot, in which lies what its predecessors have counted, and the slots of the others."""

    def __init__(self, own: Slot, others: list[Slot]) -> None:
        self._own = own
        self._others = others
        self._inherited = _read(own)[:1]
        self._base = _sum(self._inherited)

    def publish(self, families: Iterable[Metric]) -> None:
        """Let the others read these: histograms and counters, which outlive the worker, and gauges, which do not."""
        totals: Rows = []
        live: Rows = []
        for family in added(families, self._base) if self._base else families:
            rows = [
                (sample.name, [*sample.labels.items()], sample.value)
                for sample in family.samples
                if not sample.name.endswith(_CREATED)
            ]
            (live if family.type == "gauge" else totals).append((family.name, rows))
        _write(self._own, totals, live)

    def of_others(self) -> Families:
        """What to add to the worker's own counts for the sum of all."""
        shown = (part for slot in self._others for part in _read(slot))
        return _sum((*self._inherited, *shown))


class Sum(Collector):
    """All families of ``own``, with what the other workers have counted added to it."""

    def __init__(self, own: Collector, share: Share) -> None:
        self._own = own
        self._share = share

    def collect(self) -> Iterable[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        return added(self._own.collect(), self._share.of_others())


def added(families: Iterable[Metric], more: Mapping[str, Mapping[Sample, float]]) -> Iterable[Metric]:
    """The families with ``more`` added to their values, sample by sample.

    Without their times of creation, of which several processes have several.
    """
    for family in families:
        rest = dict(more.get(family.name, {}))
        total = Metric(family.name, family.documentation, family.type, family.unit)
        for sample in family.samples:
            if not sample.name.endswith(_CREATED):
                key = (sample.name, tuple(sample.labels.items()))
                total.add_sample(sample.name, sample.labels, sample.value + rest.pop(key, 0.0))
        for (name, labels), value in rest.items():
            total.add_sample(name, dict(labels), value)
        yield total


def _write(slot: Slot, totals: Rows, live: Rows) -> None:
    slot.write(orjson.dumps((totals, live)))


def _read(slot: Slot) -> tuple[Rows, Rows]:
    totals, live = orjson.loads(slot.read() or b"[[], []]")
    return totals, live


def _sum(parts: Iterable[Rows]) -> Families:
    found: Families = {}
    for part in parts:
        for family, rows in part:
            sums = found.setdefault(family, {})
            for name, labels, value in rows:
                sample = (name, tuple((label, text) for label, text in labels))
                sums[sample] = sums.get(sample, 0.0) + value
    return found
