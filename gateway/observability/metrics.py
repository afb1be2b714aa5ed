"""Metrics for Prometheus. Labels are configured names and codes: never a key, a number or a tracking_id.

With several workers each shows the others what it has counted, and a scrape of any worker adds it all up.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable

from loguru import logger
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from gateway import __version__
from gateway.dependency import GIVEN_UP, OPERATIONS, CallWatcher
from gateway.observability.snapshots import Share, Sum
from gateway.observability.tallies import Tallies
from pipeline.providers import Providers

_CARRY_OVER_SECONDS = 1.0
# The other gauges are the same in all workers: whichever is asked tells its own.
_SUMMED_GAUGES = {"sms_requests_in_flight", "sms_connection_up"}

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OWN_TIME = (
    0.00001,
    0.000025,
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.05,
    0.25,
    1.0,
    10.0,
)


class Metrics:
    """All metrics of one process, in a registry of their own; with ``share``, of one of several workers."""

    def __init__(self, share: Share | None = None) -> None:
        self.registry = CollectorRegistry()
        self.tallies = Tallies()
        self.registry.register(self.tallies)
        self._look_at_spool: Callable[[], tuple[float, float]] | None = None
        self._share = share
        if share is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
        # The eleven that the contract names.
        self.providers = self._gauge("sms_providers_config_total", "Providers configured.")
        self.provider_active = self._gauge(
            "sms_provider_active", "Whether the operator wants the provider.", "provider"
        )
        self.provider_operational = self._gauge(
            "sms_provider_operational",
            "Whether the provider is observed to work.",
            "provider",
        )
        self.rejected_unknown_provider = self._counter(
            "sms_request_rejected_unknown_provider", "Sends refused for an unknown provider.", "client"
        )
        self.rejected_provider_disabled = self._counter(
            "sms_request_rejected_provider_disabled",
            "Sends refused for disabled providers.",
            "client",
            "provider",
        )
        self.rejected_no_provider = self._counter(
            "sms_request_rejected_no_provider_available", "Sends refused with no provider usable.", "client"
        )
        self.fingerprint_mismatch = self._counter(
            "sms_config_fingerprint_mismatch", "Heartbeats of gateways that are configured otherwise.", "kind"
        )
        tallies = self.tallies
        self.requests = tallies.counter(self._counter("sms_send_requests", "Sends answered."))
        self.observe_latency = tallies.histogram(
            self._histogram("sms_send_request_latency_seconds", "Time from arrival to answer.", _LATENCY)
        )
        self.successes = tallies.counter(
            self._counter("sms_send_request_success", "Sends answered with 202, replays included.")
        )
        self.errors = tallies.counter(self._counter("sms_send_request_error", "Sends answered otherwise."))
        for kind in ("clients", "providers"):
            # There from the start, so that the first mismatch is an increase.
            self.fingerprint_mismatch.labels(kind)
        # Besides them.
        self.stage_seconds = self._histogram(
            "sms_stage_duration_seconds",
            "A stage's own time, without that of the stages inside it.",
            _OWN_TIME,
            "stage",
        )
        self.refusals = self._counter(
            "sms_stage_refusals", "Requests that were not accepted.", "stage", "code"
        )
        self.replays = self._counter("sms_replays", "Stored answers sent again.")
        self.store_seconds = self._histogram(
            "sms_store_call_duration_seconds", "Calls of the store.", _LATENCY, "operation"
        )
        self.store_errors = self._counter("sms_store_errors", "Calls of the store that failed.", "operation")
        self.store_passed_over = self._counter(
            "sms_store_passed_over",
            "Failed steps on the store that did not change the answer.",
            "stage",
            "operation",
        )
        self.store_deferred = self._counter(
            "sms_store_deferred",
            "Last steps on the store, left to be tried again in the background.",
            "stage",
            "operation",
        )
        self.store_given_up = self._counter(
            "sms_store_given_up", "Last steps on the store that will not be tried again.", "reason"
        )
        for reason in GIVEN_UP:
            # There from the start, so that the first one is an increase.
            self.store_given_up.labels(reason)
        self.observe_publish = tallies.histogram(
            self._histogram(
                "sms_broker_publish_duration_seconds", "From publish to the broker's answer.", _LATENCY
            )
        )
        self.publishes = self._counter("sms_broker_publishes", "Publishes by outcome.", "outcome")
        self.spooled = self._counter("sms_spool_stored", "Messages that the spool has taken.")
        self.spool_moved = self._counter("sms_spool_moved", "Messages moved from the spool to the broker.")
        # Every worker looks at the same file: a sum would count it twice.
        self.spool_messages = self._gauge("sms_spool_messages", "Messages that wait in the spool.")
        self.spool_oldest = self._gauge(
            "sms_spool_oldest_age_seconds",
            "How long the oldest message has waited in the spool.",
        )
        self.heartbeats = self._counter("sms_heartbeats", "Heartbeats sent, by outcome.", "outcome")
        self.connections_refused = self._counter(
            "sms_connections_refused", "Connections refused since too many were open."
        )
        self.in_flight = self._gauge("sms_requests_in_flight", "Sends being served.")
        self.log_dropped = self._counter(
            "sms_log_lines_dropped", "Log lines that the reader of stdout left no room for."
        )
        self.connection_up = self._gauge(
            "sms_connection_up", "Workers whose connection is usable.", "dependency"
        )
        self.build = self._gauge("sms_build_info", "The version that runs; always 1.", "version", "python")
        self.build.labels(__version__, platform.python_version()).set(1)

    def describe_providers(self, providers: Providers) -> None:
        """Show the configured providers and their states."""
        self.providers.set(len(providers.by_name))
        for name, provider in providers.by_name.items():
            self.provider_active.labels(name).set(provider.is_active)
            self.provider_operational.labels(name).set(provider.is_operational)

    def watch_connection(self, dependency: str) -> Callable[[bool], None]:
        """A watcher that keeps ``sms_connection_up`` of this dependency."""
        gauge = self.connection_up.labels(dependency)
        gauge.set(0)
        return gauge.set

    def watch_store(self) -> CallWatcher:
        """Counts and measures the calls of the store."""
        seconds = {
            operation: self.tallies.histogram(self.store_seconds.labels(operation))
            for operation in OPERATIONS
        }
        errors = {operation: self.store_errors.labels(operation) for operation in OPERATIONS}

        def watch(operation: str, took_seconds: float, has_failed: bool) -> None:
            seconds[operation](took_seconds)
            if has_failed:
                errors[operation].inc()

        return watch

    def watch_spool(self, look: Callable[[], tuple[float, float]]) -> None:
        """Have every scrape ask ``look`` how many messages wait in the spool, and the oldest for how many seconds."""
        self._look_at_spool = look

    def watch_in_flight(self, look: Callable[[], int]) -> None:
        """Have ``look`` asked, before every scrape, how many sends are being served."""
        self.tallies.gauge(self.in_flight, look)

    def watch_log(self, look: Callable[[], int]) -> None:
        """Have ``look`` asked, before every scrape, how many log lines have been dropped so far."""
        self.tallies.watch(self.log_dropped, look)

    async def keep_up(self) -> None:
        """Carry the tallies over for ever, and show the other workers what there is, for the scrapes they answer."""
        try:
            has_failed = False
            while True:
                await asyncio.sleep(_CARRY_OVER_SECONDS)
                try:
                    self._carry_over()
                    has_failed = False
                except Exception:  # noqa: BLE001 - whatever it was, the next second may do better
                    if not has_failed:
                        logger.opt(exception=True).error(
                            "what is counted cannot be carried over: tried again every second"
                        )
                    has_failed = True
        finally:  # What a worker has counted outlives it.
            self._carry_over()

    def _carry_over(self) -> None:
        if self._share is None:
            self.tallies.carry_over()
        else:
            families = self.registry.collect()
            self._share.publish(
                family for family in families if family.type != "gauge" or family.name in _SUMMED_GAUGES
            )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, in the format that an Accept header asks for."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # The library trusts what the header says of versions.
            encode, content_type = choose_encoder("")
        if self._look_at_spool is not None:
            messages, oldest_seconds = self._look_at_spool()
            self.spool_messages.set(messages)
            self.spool_oldest.set(oldest_seconds)
        registry = self.registry
        if self._share is not None:
            # First: whoever answers the next scrape must not show less, whatever has become of this worker.
            self._carry_over()
            registry = CollectorRegistry()
            registry.register(Sum(self.registry, self._share))
        return encode(registry), content_type

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)
