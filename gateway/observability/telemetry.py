"""What the pipeline tells about itself, turned into metrics and one log line for each request."""

from __future__ import annotations

import time

from loguru import logger
from prometheus_client import Counter

from gateway.observability.logs import Log, describe, mask
from gateway.observability.metrics import Metrics
from gateway.observability.tallies import CounterTally, Observe
from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Client, Message
from pipeline.failures import NotAccepted
from pipeline.ports import BrokerRefused, BrokerUnknown, ClaimLost, Outcome, StoreUnavailable

# Causes that are no bugs: their words are ours, for people, and say nothing of the message.
_EXPECTED = (BrokerRefused, BrokerUnknown, StoreUnavailable)

# Those that the store's owner tries again (``gateway.retries``).
_LAST_STEPS = ("complete", "release", "suspend", "give_back")
# What senders cannot mend, operators should see; a request's own mistakes are no news to them.
_LEVELS = {500: "ERROR", 503: "WARNING"}


class GatewayTelemetry:
    """Implements ``pipeline.ports.Telemetry``."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self.metrics = metrics
        self.log = log
        self._publishes = {
            outcome: metrics.tallies.counter(metrics.publishes.labels(outcome))
            for outcome in ("confirmed", "refused", "unknown")
        }
        # Looked up once: a label costs more than all that is counted of a request.
        self._counts: dict[tuple[Counter, *tuple[str, ...]], CounterTally] = {}

    def stopwatch(self, stage: str) -> Observe:
        """Takes the seconds of its own that this stage spent on each request."""
        return self.metrics.tallies.histogram(self.metrics.stage_seconds.labels(stage))

    def published(self, outcome: Outcome, seconds: float) -> None:
        """The outbox has answered, after so long."""
        self._publishes[outcome].inc()
        self.metrics.observe_publish(seconds)

    def replayed(self) -> None:
        """A stored answer was sent again."""
        self.metrics.replays.inc()

    def store_failed(self, context: Context, stage: str, operation: str, error: Exception) -> None:
        """A step on the store failed, and the request goes on without it, or the step is tried again behind it."""
        if operation in _LAST_STEPS and isinstance(error, StoreUnavailable):
            counter, consequence = self.metrics.store_deferred, "it is tried again in the background"
        else:
            counter, consequence = self.metrics.store_passed_over, "the request goes on without it"
        if isinstance(error, ClaimLost):
            consequence = "it came too late, and the claim is another request's or gone"
        counter.labels(stage, operation).inc()
        cause = str(error) or type(error).__name__
        logger.bind(tracking_id=context.tracking_id, stage=stage, cause=cause).warning(
            "the store failed at '{}': {}", operation, consequence
        )

    def overloaded(self, tracking_id: str, refusal: NotAccepted, seconds: float) -> None:
        """A send was refused on arrival, since too many are in flight; it took so long."""
        self._measure(refusal.code.status, seconds)
        extra = {"tracking_id": tracking_id, "status": refusal.code.status, "error_code": refusal.code.name}
        self.log.write(
            "WARNING",
            "send refused",
            {**extra, "latency_ms": round(seconds * 1000, 3), "cause": "MAX_IN_FLIGHT"},
        )

    def answered(self, context: Context, status: int, failure: NotAccepted | None) -> None:
        """The request is over; ``failure`` holds the cause where it was not accepted."""
        seconds = time.perf_counter() - context.stopwatch.arrived
        client = context.get(Client)
        if context.is_send:
            self._measure(status, seconds)
            if failure is not None and status >= 400:
                self._count_refusal(client, failure)
        self._log(context, status, seconds, client, failure)

    def _measure(self, status: int, seconds: float) -> None:
        self.metrics.requests.inc()
        self.metrics.observe_latency(seconds)
        (self.metrics.successes if status < 400 else self.metrics.errors).inc()

    def _count_refusal(self, client: Client | None, failure: NotAccepted) -> None:
        code = failure.code
        if failure.stage is not None:
            self._count(self.metrics.refusals, failure.stage, code.name)
        if client is None:
            return
        if code is codes.UNKNOWN_PROVIDER:
            self._count(self.metrics.rejected_unknown_provider, client.name)
        elif code is codes.NO_PROVIDER_AVAILABLE:
            self._count(self.metrics.rejected_no_provider, client.name)
        elif code is codes.PROVIDER_DISABLED or code is codes.ALL_PROVIDERS_DISABLED:
            for provider in (failure.details or {}).get("providers", ()):
                self._count(self.metrics.rejected_provider_disabled, client.name, provider)

    def _count(self, counter: Counter, *labels: str) -> None:
        tally = self._counts.get((counter, *labels))
        if tally is None:
            tally = self._counts[counter, *labels] = self.metrics.tallies.counter(counter.labels(*labels))
        tally.inc()

    def _log(
        self,
        context: Context,
        status: int,
        seconds: float,
        client: Client | None,
        failure: NotAccepted | None,
    ) -> None:
        extra: dict[str, object] = {
            "tracking_id": context.tracking_id,
            "status": status,
            "latency_ms": round(seconds * 1000, 3),
        }
        if client is not None:
            extra["client"] = client.name
        if context.api_key_hint is not None:
            extra["client_api_key"] = context.api_key_hint
        message = context.get(Message)
        if message is not None:
            extra["to"] = mask(message.to)
        if b"idempotent-replayed" in context.headers:
            extra["replayed"] = True
        if failure is not None:
            extra["error_code"] = failure.code.name
            if failure.stage is not None:
                extra["stage"] = failure.stage
            self._explain(extra, failure)
        # Health checks and scrapes come every few seconds: their lines are for debugging.
        quiet = not context.is_send and status < 400
        level = "DEBUG" if quiet else "ERROR" if "exception" in extra else _LEVELS.get(status, "INFO")
        what = "send" if context.is_send else "request"
        self.log.write(level, f"{what} {'accepted' if status < 400 else 'refused'}", extra)

    def _explain(self, extra: dict[str, object], failure: NotAccepted) -> None:
        cause = failure.__cause__
        if cause is None:
            return
        if isinstance(cause, _EXPECTED):
            extra["cause"] = str(cause)
        elif isinstance(cause, NotAccepted):
            extra["cause"] = cause.code.name
        else:
            extra["exception"] = describe(cause)
