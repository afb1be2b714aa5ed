"""Metrics, by the names of the contract."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway import __version__
from gateway.dependency import GIVEN_UP
from gateway.observability import metrics as metrics_module
from gateway.observability.metrics import Metrics
from gateway.observability.snapshots import Snapshots
from pipeline.providers import Provider, Providers
from tests.support.waiting import eventually

CATALOGUE = Providers([Provider("alpha"), Provider("beta", is_active=False, is_operational=False)])

# The contract, section 6: sample names, with their labels.
ELEVEN = {
    "sms_providers_config_total": (),
    "sms_provider_active": ("provider",),
    "sms_provider_operational": ("provider",),
    "sms_request_rejected_unknown_provider_total": ("client",),
    "sms_request_rejected_provider_disabled_total": ("client", "provider"),
    "sms_request_rejected_no_provider_available_total": ("client",),
    "sms_config_fingerprint_mismatch_total": ("kind",),
    "sms_send_requests_total": (),
    "sms_send_request_latency_seconds_bucket": ("le",),
    "sms_send_request_success_total": (),
    "sms_send_request_error_total": (),
}

Samples = dict[str, tuple[str, ...]]


def touched() -> Metrics:
    """Metrics of which each has a sample."""
    metrics = Metrics()
    metrics.describe_providers(CATALOGUE)
    metrics.rejected_unknown_provider.labels("acme").inc()
    metrics.rejected_provider_disabled.labels("acme", "beta").inc()
    metrics.rejected_no_provider.labels("acme").inc()
    metrics.fingerprint_mismatch.labels("clients").inc()
    metrics.requests.inc()
    metrics.observe_latency(0.002)
    return metrics


def samples(metrics: Metrics, accept: str = "") -> Samples:
    """The names of all samples in an exposition, with their labels."""
    body, content_type = metrics.exposition(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return {
        sample.name: tuple(sorted(sample.labels))
        for family in parse(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_eleven_have_the_names_and_labels_of_the_contract(accept: str) -> None:
    """In both formats, by exactly these names and labels; and Prometheus can parse what is there."""
    found = samples(touched(), accept)
    assert {name: found.get(name) for name in ELEVEN} == ELEVEN


def test_the_format_is_the_one_asked_for() -> None:
    """OpenMetrics when Accept says so, otherwise the older text."""
    metrics = Metrics()
    body, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    body, content_type = metrics.exposition("*/*")
    assert content_type.startswith("text/plain")
    assert b"# EOF" not in body


def test_a_counter_exists_before_it_counts() -> None:
    """A rate over a series that is born at its first count would miss that count."""
    found = samples(Metrics())
    for name in ("sms_send_requests_total", "sms_send_request_success_total", "sms_send_request_error_total"):
        assert name in found


@pytest.mark.parametrize("reason", GIVEN_UP)
def test_the_first_step_that_is_given_up_is_an_increase(reason: str) -> None:
    """Both series are there before it."""
    assert Metrics().registry.get_sample_value("sms_store_given_up_total", {"reason": reason}) == 0


@pytest.mark.parametrize("kind", ["clients", "providers"])
def test_a_mismatch_is_an_increase_from_nothing(kind: str) -> None:
    """Both series are there before the first mismatch, or an alert on their rate would miss it."""
    name = "sms_config_fingerprint_mismatch_total"
    assert Metrics().registry.get_sample_value(name, {"kind": kind}) == 0


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=1.x.0",
        "text/plain, application/openmetrics-text; version=one",
    ],
)
def test_an_accept_that_cannot_be_read_gets_the_text(accept: str) -> None:
    """What a scraper says of versions is no reason to fail its scrape."""
    body, content_type = Metrics().exposition(accept)
    assert content_type.startswith("text/plain")
    assert b"sms_send_requests_total" in body


def test_the_providers_are_described() -> None:
    """How many there are, and of each what is wanted and what is observed."""
    registry = touched().registry
    assert registry.get_sample_value("sms_providers_config_total") == 2
    for provider, value in (("alpha", 1), ("beta", 0)):
        for name in ("sms_provider_active", "sms_provider_operational"):
            assert registry.get_sample_value(name, {"provider": provider}) == value


def test_a_connection_is_down_until_it_is_up() -> None:
    """Who scrapes before the first connection sees 0, not nothing."""
    metrics = Metrics()
    watch = metrics.watch_connection("store")

    def value() -> float | None:
        return metrics.registry.get_sample_value("sms_connection_up", {"dependency": "store"})

    assert value() == 0
    watch(True)
    assert value() == 1
    watch(False)
    assert value() == 0


def test_every_scrape_looks_at_the_spool() -> None:
    """What waits is what the file says at that moment; without a spool nothing waits."""
    metrics = Metrics()
    body, _ = metrics.exposition("")
    assert b"\nsms_spool_messages 0.0\n" in body
    looks = [(3, 1.5), (0, 0)]
    left = iter(looks)
    metrics.watch_spool(lambda: next(left))
    for messages, seconds in looks:
        metrics.exposition("")
        assert metrics.registry.get_sample_value("sms_spool_messages") == messages
        assert metrics.registry.get_sample_value("sms_spool_oldest_age_seconds") == seconds


def test_the_version_is_told() -> None:
    """A rollout can be watched."""
    (family,) = Metrics().build.collect()
    labels = [sample.labels for sample in family.samples]
    assert [label["version"] for label in labels] == [__version__]


def test_two_applications_in_a_process_do_not_share_metrics() -> None:
    """Each has a registry of its own; there is nothing global to collide in."""
    first, second = Metrics(), Metrics()
    first.requests.inc()
    assert isinstance(first.registry, CollectorRegistry)
    assert second.registry.get_sample_value("sms_send_requests_total") == 0


async def shown(metrics: Metrics) -> None:
    """What a worker shows the others every second, it shows at its end too."""
    keeping = asyncio.create_task(metrics.keep_up())
    await asyncio.sleep(0)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_one_scrape_adds_up_what_all_workers_count() -> None:
    """Counters, histograms and two gauges are sums, also of labels that the one asked has not seen.

    What is the same in all of them is not.
    """
    snapshots = Snapshots(2)
    first, second = (Metrics(snapshots.share(place)) for place in (0, 1))
    for metrics in (first, second):
        metrics.describe_providers(CATALOGUE)
        metrics.requests.inc()
        metrics.observe_latency(0.002)
        metrics.watch_connection("store")(True)
    second.rejected_unknown_provider.labels("acme").inc()
    await shown(second)
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        assert ELEVEN.keys() - samples(first, accept).keys() <= {
            "sms_request_rejected_provider_disabled_total",
            "sms_request_rejected_no_provider_available_total",
        }
        lines = first.exposition(accept)[0].decode().splitlines()
        assert "sms_send_requests_total 2.0" in lines
        assert 'sms_send_request_latency_seconds_bucket{le="0.0025"} 2.0' in lines
        assert "sms_send_request_latency_seconds_count 2.0" in lines
        assert 'sms_connection_up{dependency="store"} 2.0' in lines
        assert 'sms_request_rejected_unknown_provider_total{client="acme"} 1.0' in lines
        assert "sms_providers_config_total 2.0" in lines
        assert 'sms_provider_active{provider="alpha"} 1.0' in lines
        assert not [line for line in lines if "_created" in line]


async def test_what_a_worker_has_counted_outlives_it_and_its_live_gauges_do_not() -> None:
    """Who takes its place goes on with its counts, however often one is replaced."""
    snapshots = Snapshots(2)
    first, second = (Metrics(snapshots.share(place)) for place in (0, 1))
    for _ in range(3):
        second.requests.inc()
        second.watch_connection("store")(True)
        await shown(second)
        snapshots.forget_live(1)
        lines = first.exposition("")[0].decode().splitlines()
        assert 'sms_connection_up{dependency="store"} 1.0' not in lines
        second = Metrics(snapshots.share(1))
    for metrics in (first, second):
        assert "sms_send_requests_total 3.0" in metrics.exposition("")[0].decode().splitlines()


def test_what_one_scrape_has_shown_no_later_one_takes_back() -> None:
    """Or Prometheus would take the counter for reset, and count all of it again: the worker may be killed meanwhile."""
    snapshots = Snapshots(2)
    first, second = (Metrics(snapshots.share(place)) for place in (0, 1))
    first.requests.inc()
    for metrics in (first, second):
        assert "sms_send_requests_total 1.0" in metrics.exposition("")[0].decode().splitlines()


async def test_counting_outlives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is used up for a moment does not end the sums for as long as the process lives."""
    monkeypatch.setattr(metrics_module, "_CARRY_OVER_SECONDS", 0.001)
    metrics = Metrics()
    failures = iter([MemoryError(), MemoryError()])
    carried: list[int] = []

    def failing() -> None:
        for failure in failures:
            raise failure
        carried.append(1)

    monkeypatch.setattr(metrics.tallies, "carry_over", failing)
    keeping = asyncio.create_task(metrics.keep_up())
    await eventually(lambda: carried)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_what_was_counted_last_is_carried_over_at_the_end() -> None:
    """With several workers what one has counted outlives it, and so must its last second."""
    metrics = Metrics()
    keeping = asyncio.create_task(metrics.keep_up())
    await asyncio.sleep(0)
    metrics.requests.inc()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert metrics.requests._count == 0
    assert metrics.registry.get_sample_value("sms_send_requests_total") == 1
