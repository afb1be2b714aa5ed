"""The ports' adapters with a stopwatch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.measured import MeasuredOutbox, MeasuredStore
from gateway.observability.metrics import Metrics
from pipeline.answer import accepted
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Claim, Client, Message, Reservation, Route
from pipeline.ports import Begun, BrokerRefused, BrokerUnknown, ClaimLost, StoreUnavailable
from tests.support.asgi import NOON
from tests.support.scripted import ScriptedOutbox, ScriptedStore

ACME = Client("acme")
CLAIM = Claim.on(ACME, "key", b"\0" * 32)
ENVELOPE = Envelope(
    "id", "acme", Message("+14155552671", "x", 60), Route(), ConfigFingerprint("a", "b"), NOON
)
TAKEN = Reservation("acme", NOON.date(), None, 1, "token")

STEPS: dict[str, Callable[[MeasuredStore], Awaitable[Any]]] = {
    "begin": lambda store: store.begin(CLAIM),
    "arm": lambda store: store.arm(CLAIM),
    "complete": lambda store: store.complete(CLAIM, accepted("x")),
    "release": lambda store: store.release(CLAIM),
    "suspend": lambda store: store.suspend(CLAIM),
    "take": lambda store: store.take(ACME, NOON.date(), "token", None),
    "give_back": lambda store: store.give_back(TAKEN),
}


def seen(metrics: Metrics, operation: str) -> tuple[float | None, float | None]:
    """Calls and errors of one operation."""
    labels = {"operation": operation}
    return (
        metrics.registry.get_sample_value("sms_store_call_duration_seconds_count", labels),
        metrics.registry.get_sample_value("sms_store_errors_total", labels),
    )


@pytest.mark.parametrize("operation", STEPS)
async def test_each_step_reaches_the_store_and_is_measured(operation: str) -> None:
    """The step's arguments and result pass through; only its own series moves."""
    metrics, store = Metrics(), ScriptedStore()
    await STEPS[operation](MeasuredStore(store, metrics))
    assert store.steps == [operation]
    assert {name: seen(metrics, name) for name in STEPS} == {
        name: (1.0 if name == operation else 0.0, 0.0) for name in STEPS
    }


@pytest.mark.parametrize("operation", STEPS)
async def test_a_step_that_fails_is_an_error(operation: str) -> None:
    """The failure is counted, its time is measured, and it is passed on."""
    metrics, down = Metrics(), StoreUnavailable("no answer")
    scripted: Any = {operation: down}
    with pytest.raises(StoreUnavailable):
        await STEPS[operation](MeasuredStore(ScriptedStore(**scripted), metrics))
    assert seen(metrics, operation) == (1.0, 1.0)


async def test_what_the_store_finds_is_no_error() -> None:
    """A lost claim is an answer of a store that works."""
    metrics = Metrics()
    with pytest.raises(ClaimLost):
        await MeasuredStore(ScriptedStore(arm=ClaimLost()), metrics).arm(CLAIM)
    assert seen(metrics, "arm") == (1.0, 0.0)
    assert await MeasuredStore(ScriptedStore(), metrics).begin(CLAIM) == Begun()


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (None, "confirmed"),
        (BrokerRefused("blocked"), "refused"),
        (BrokerUnknown("no confirm"), "unknown"),
        (RuntimeError("bug"), "unknown"),
        (asyncio.CancelledError(), "unknown"),
    ],
    ids=repr,
)
async def test_a_publish_is_counted_by_its_outcome(outcome: BaseException | None, counted: str) -> None:
    """Confirmed, refused or unknown; whatever is not certain is unknown."""
    metrics, outbox = Metrics(), ScriptedOutbox(outcome)
    measured = MeasuredOutbox(outbox, metrics)
    if outcome is None:
        await measured.publish(ENVELOPE)
    else:
        with pytest.raises(type(outcome)):
            await measured.publish(ENVELOPE)
    assert outbox.envelopes == [ENVELOPE]
    value = metrics.registry.get_sample_value
    assert {
        name: value("sms_broker_publishes_total", {"outcome": name})
        for name in ("confirmed", "refused", "unknown")
    } == {name: float(name == counted) for name in ("confirmed", "refused", "unknown")}
    assert value("sms_broker_publish_duration_seconds_count") == 1
