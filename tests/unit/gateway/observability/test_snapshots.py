"""What workers show each other, added up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.observability.snapshots import Share, Snapshots, Sum


class Worker:
    """A worker's registry: a counter and a gauge, each with a label."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.registry = CollectorRegistry()
        self.sent = Counter("sent", "Counts.", ["client"], registry=self.registry)
        self.open = Gauge("open", "Is open.", ["part"], registry=self.registry)

    def publish(self) -> None:
        self.share.publish(self.registry.collect())

    def shown(self) -> dict[tuple[str, ...], float]:
        """What it answers to a scrape."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in Sum(self.registry, self.share).collect()
            for sample in family.samples
        }


def test_whichever_worker_is_asked_tells_the_sum() -> None:
    """Sample by sample, those that it has not counted itself included; without times of creation."""
    snapshots = Snapshots(2)
    first, second = (Worker(snapshots.share(place)) for place in (0, 1))
    first.sent.labels("acme").inc(2)
    second.sent.labels("acme").inc(3)
    second.sent.labels("other").inc()
    second.open.labels("store").set(1)
    for worker in (first, second):
        worker.publish()
    for worker in (first, second):
        assert worker.shown() == {
            ("sent_total", "acme"): 5,
            ("sent_total", "other"): 1,
            ("open", "store"): 1,
        }


def test_what_has_been_counted_stays_when_its_worker_is_replaced() -> None:
    """Also before the next one has counted anything, and after that one's end; what was going on is over."""
    snapshots = Snapshots(2)
    other = Worker(snapshots.share(0))
    for times in (1, 2, 3):
        worker = Worker(snapshots.share(1))
        worker.sent.labels("acme").inc()
        worker.open.labels("store").set(1)
        worker.publish()
        assert other.shown() == worker.shown() == {("sent_total", "acme"): times, ("open", "store"): 1}
        snapshots.forget_live(1)
        assert other.shown() == {("sent_total", "acme"): times}
