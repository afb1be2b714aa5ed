"""Tallies, held to what prometheus_client counts itself."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.observability.tallies import Tallies

BUCKETS = (0.001, 0.01, 0.1, 1.0)
AMOUNTS = st.one_of(
    st.floats(0, 10), st.sampled_from(BUCKETS), st.sampled_from([0.0, 5e-324, 1e300, float("inf")])
)


@given(st.lists(st.one_of(AMOUNTS, st.just("carry over"))), st.integers(0, 5))
def test_a_scrape_cannot_tell_the_difference(seen: list[float | str], counted: int) -> None:
    """Whatever is observed and counted, and however often it is carried over in between."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallies = Tallies()
    ours.register(tallies)
    histograms = [
        Histogram("h", "h", ("x",), registry=r, buckets=BUCKETS).labels("y") for r in (ours, theirs)
    ]
    counters = [Counter("c", "c", registry=r) for r in (ours, theirs)]
    observe, count = tallies.histogram(histograms[0]), tallies.counter(counters[0])
    for amount in seen:
        if isinstance(amount, str):
            tallies.carry_over()
        else:
            observe(amount)
            histograms[1].observe(amount)
    for _ in range(counted):
        count.inc()
        counters[1].inc()
    for name, values in (("h_bucket", len(BUCKETS) + 1), ("h_count", 1), ("c_total", 1)):
        expected = _values(theirs, name)
        assert len(expected) == values
        # What was carried over once is not counted again.
        assert _values(ours, name) == _values(ours, name) == expected
    our_sum, their_sum = (registry.get_sample_value("h_sum", {"x": "y"}) for registry in (ours, theirs))
    assert our_sum is not None
    assert their_sum is not None
    # Added up in another order; an infinite sum is close to nothing but itself.
    assert math.isclose(our_sum, their_sum, rel_tol=1e-9)


def test_a_gauge_has_its_latest_value() -> None:
    """It is looked up before every scrape."""
    registry = CollectorRegistry()
    tallies = Tallies()
    registry.register(tallies)
    values = iter((3, 5))
    tallies.gauge(Gauge("g", "g", registry=registry), lambda: next(values))
    assert b"\ng 3.0\n" in generate_latest(registry)
    assert b"\ng 5.0\n" in generate_latest(registry)


def test_a_counter_follows_a_total() -> None:
    """It grows by what the total has grown since it was last looked at."""
    registry = CollectorRegistry()
    tallies = Tallies()
    registry.register(tallies)
    total = 2
    tallies.watch(Counter("c", "c", registry=registry), lambda: total)
    assert registry.get_sample_value("c_total") == 2
    total = 7
    assert registry.get_sample_value("c_total") == 7
    assert registry.get_sample_value("c_total") == 7


def _values(registry: CollectorRegistry, name: str) -> list[tuple[object, float]]:
    return sorted(
        (tuple(sample.labels.items()), sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    )
