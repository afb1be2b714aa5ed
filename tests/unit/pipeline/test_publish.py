"""The terminal handler."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Claim, Client, Message, Route
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.ports import BrokerRefused, BrokerUnknown, ClaimLost, StoreUnavailable
from pipeline.providers import Provider, Providers
from pipeline.publish import Publish
from pipeline.store_policy import StorePolicy
from tests.support.asgi import NOON, Ears, Exchange, StandingClock
from tests.support.scripted import ScriptedOutbox, ScriptedStore

ACME = Client("acme")
MESSAGE = Message("+14155552671", "Hello", 60, ("u",))
FINGERPRINT = ConfigFingerprint("a" * 64, "b" * 64)
CATALOGUE = Providers([Provider("up", aliases=("u",)), Provider("off", is_active=False)])


@dataclass
class Place:
    """A terminal handler among scripted ports."""

    outbox: ScriptedOutbox = field(default_factory=ScriptedOutbox)
    store: ScriptedStore = field(default_factory=ScriptedStore)
    ears: Ears = field(default_factory=Ears)
    on_store_error: str = "reject"
    exchange: Exchange = field(default_factory=Exchange)

    async def publish(self, *facts: object) -> Exchange:
        publish = Publish(
            outbox=self.outbox,
            claims=self.store,
            providers=CATALOGUE,
            config_fingerprint=FINGERPRINT,
            clock=StandingClock(),
            telemetry=self.ears,
            claim_policy=StorePolicy("publish", self.on_store_error, self.ears),
        )
        return await self.exchange.through(publish, *facts)


def claim() -> Claim:
    return Claim.on(ACME, "key", b"\0" * 32)


async def test_what_was_stored_is_accepted() -> None:
    """The envelope holds what the stages found out, and the 202 names its tracking_id."""
    place = Place()
    exchange = await place.publish(ACME, MESSAGE, Route(("up",)))
    assert exchange.status == 202
    assert exchange.json["tracking_id"] == exchange.context.tracking_id
    assert place.outbox.envelopes == [
        Envelope(exchange.context.tracking_id, "acme", MESSAGE, Route(("up",)), FINGERPRINT, NOON)
    ]
    assert place.ears.publishes == ["confirmed"]


@pytest.mark.parametrize("route", [Route(("off",)), Route(())], ids=repr)
async def test_the_route_of_the_gate_stands(route: Route) -> None:
    """Whatever the names in the message would lead to: what the gate has dropped does not come back."""
    place = Place()
    await place.publish(ACME, MESSAGE, route)
    assert place.outbox.envelopes[0].route == route


async def test_without_a_gate_names_are_still_resolved() -> None:
    """The route has canonical names though no stage looked at the providers' states."""
    place = Place()
    await place.publish(ACME, Message("+14155552671", "x", 60, ("OFF", "u")))
    assert place.outbox.envelopes[0].route == Route(("off", "up"))


async def test_without_a_gate_unknown_names_are_still_refused() -> None:
    """Nothing is published and no claim is armed for a provider that does not exist."""
    place = Place()
    with pytest.raises(Refused, match="UNKNOWN_PROVIDER"):
        await place.publish(ACME, Message("+14155552671", "x", 60, ("x",)), claim())
    assert place.outbox.envelopes == []
    assert place.store.calls == []


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (BrokerRefused("blocked"), "SERVICE_UNAVAILABLE"),
        (BrokerUnknown("no confirm in time"), "OUTCOME_UNKNOWN"),
        (RuntimeError("a bug"), "OUTCOME_UNKNOWN"),
        (asyncio.CancelledError(), "OUTCOME_UNKNOWN"),
        (TimeoutError(), "OUTCOME_UNKNOWN"),
    ],
    ids=repr,
)
async def test_the_outcomes_are_kept_apart(outcome: BaseException, failure: str) -> None:
    """Only what the broker certainly does not have is refused; whatever else goes wrong is unknown."""
    place = Place(ScriptedOutbox(outcome))
    with pytest.raises(NotAccepted, match=failure) as raised:
        await place.publish(ACME, MESSAGE)
    assert isinstance(raised.value, Refused if failure == "SERVICE_UNAVAILABLE" else OutcomeUnknown)
    assert raised.value.retry_after == 1
    assert raised.value.__cause__ is outcome
    assert place.exchange.sent == []
    assert place.ears.publishes == ["refused" if failure == "SERVICE_UNAVAILABLE" else "unknown"]


@pytest.mark.parametrize("was_in_doubt", [False, True])
@pytest.mark.parametrize(
    ("outcome", "may_be_published"),
    [
        (None, True),
        (BrokerRefused("blocked"), None),
        (BrokerUnknown("no confirm in time"), True),
        (RuntimeError("a bug"), True),
        (asyncio.CancelledError(), True),
    ],
    ids=repr,
)
async def test_from_the_publish_on_it_may_be_published(
    outcome: BaseException | None, may_be_published: bool | None, *, was_in_doubt: bool
) -> None:
    """Unless the broker refused it: then only an earlier request under its key may have put it on the queue."""

    class Looking(ScriptedOutbox):
        async def publish(self, envelope: Envelope) -> None:
            assert place.exchange.context.may_be_published
            await super().publish(envelope)

    place = Place(Looking(outcome))
    place.exchange.context.may_be_published = was_in_doubt
    if outcome is None:
        await place.publish(ACME, MESSAGE)
    else:
        with pytest.raises(NotAccepted):
            await place.publish(ACME, MESSAGE)
    assert len(place.outbox.envelopes) == 1
    expected = was_in_doubt if may_be_published is None else may_be_published
    assert place.exchange.context.may_be_published is expected
    assert place.exchange.context.is_published is (outcome is None)


async def test_before_the_publish_nothing_is_in_doubt() -> None:
    """A claim that could not be armed is a refusal."""
    place = Place(store=ScriptedStore(arm=StoreUnavailable("down")))
    with pytest.raises(Refused):
        await place.publish(ACME, MESSAGE, claim())
    assert not place.exchange.context.may_be_published


async def test_a_claim_is_armed_before_the_publish() -> None:
    """Where no quota stage has armed it: the store knows that the message may be on the queue before it is."""
    place = Place()
    held = claim()
    await place.publish(ACME, MESSAGE, held)
    assert place.store.calls == [("arm", held)]
    failing = Place(store=ScriptedStore(arm=StoreUnavailable("down")))
    with pytest.raises(Refused):
        await failing.publish(ACME, MESSAGE, claim())
    assert failing.outbox.envelopes == []


async def test_an_armed_claim_is_not_armed_again() -> None:
    """Taking quota has armed it in the same step."""
    place = Place()
    held = claim()
    held.armed = True
    await place.publish(ACME, MESSAGE, held)
    assert place.store.calls == []


async def test_a_lost_claim_is_somebody_elses_to_publish() -> None:
    """A request that was paused past its lease publishes nothing, and its client is told to ask again."""
    place = Place(store=ScriptedStore(arm=ClaimLost()))
    with pytest.raises(Refused, match="IDEMPOTENCY_IN_PROGRESS") as refused:
        await place.publish(ACME, MESSAGE, claim())
    assert refused.value.retry_after == 1
    assert place.outbox.envelopes == []


async def test_without_a_store_the_policy_decides() -> None:
    """``reject`` publishes nothing; ``allow`` publishes and tells that the claim was not armed."""
    down = StoreUnavailable("no answer")
    rejecting = Place(store=ScriptedStore(arm=down))
    with pytest.raises(Refused, match="SERVICE_UNAVAILABLE"):
        await rejecting.publish(ACME, MESSAGE, claim())
    allowing = Place(store=ScriptedStore(arm=down), on_store_error="allow")
    assert (await allowing.publish(ACME, MESSAGE, claim())).status == 202
    assert allowing.ears.store_failures == [("publish", "arm", "StoreUnavailable")]
