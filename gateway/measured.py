"""The ports' adapters with a stopwatch: latency, errors and outcomes of the store and of the broker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Coroutine
from datetime import date
from typing import Any, Protocol, TypeVar

from gateway.observability.metrics import Metrics
from pipeline.answer import Answer
from pipeline.envelope import Envelope
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import (
    Begun,
    BrokerRefused,
    Claims,
    InProgress,
    OtherPayload,
    Outbox,
    QuotaExceeded,
    Quotas,
    Replay,
    StoreUnavailable,
)

Result = TypeVar("Result")

Step = Coroutine[Any, Any, Result]
"""What a method of a port gives; who only passes a step on needs no coroutine of his own around it."""


class Store(Claims, Quotas, Protocol):
    """Claims and quotas lie together: taking quota and arming a claim is one step."""


class MeasuredStore:
    """A store, measured by operation."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self.store = store
        operations = ("begin", "arm", "complete", "release", "suspend", "take", "give_back")
        tallied = metrics.tallies.histogram
        self._observe = {
            operation: tallied(metrics.store_seconds.labels(operation)) for operation in operations
        }
        self._errors = {operation: metrics.store_errors.labels(operation) for operation in operations}

    def begin(self, claim: Claim) -> Step[Begun | Replay | InProgress | OtherPayload]:
        """See ``pipeline.ports.Claims``."""
        return self._measure("begin", self.store.begin(claim))

    def arm(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._measure("arm", self.store.arm(claim))

    def complete(self, claim: Claim, answer: Answer) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._measure("complete", self.store.complete(claim, answer))

    def release(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._measure("release", self.store.release(claim))

    def suspend(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._measure("suspend", self.store.suspend(claim))

    def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Step[Reservation | QuotaExceeded]:
        """See ``pipeline.ports.Quotas``."""
        return self._measure("take", self.store.take(client, day, token, claim))

    def give_back(self, reservation: Reservation) -> Step[None]:
        """See ``pipeline.ports.Quotas``."""
        return self._measure("give_back", self.store.give_back(reservation))

    async def _measure(self, operation: str, call: Awaitable[Result]) -> Result:
        started = time.perf_counter()
        try:
            return await call
        except StoreUnavailable:
            self._errors[operation].inc()
            raise
        finally:
            self._observe[operation](time.perf_counter() - started)


class MeasuredOutbox:
    """An outbox, measured by outcome."""

    def __init__(self, outbox: Outbox, metrics: Metrics) -> None:
        self.outbox = outbox
        tallied = metrics.tallies.counter
        self._observe = metrics.observe_publish
        self._confirmed = tallied(metrics.publishes.labels("confirmed"))
        self._refused = tallied(metrics.publishes.labels("refused"))
        self._unknown = tallied(metrics.publishes.labels("unknown"))

    async def publish(self, envelope: Envelope) -> None:
        """See ``pipeline.ports.Outbox``."""
        started = time.perf_counter()
        outcome = self._unknown
        try:
            await self.outbox.publish(envelope)
            outcome = self._confirmed
        except BrokerRefused:
            outcome = self._refused
            raise
        finally:
            outcome.inc()
            self._observe(time.perf_counter() - started)
