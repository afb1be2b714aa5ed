"""The clock passes midnight in the middle of a request: it is charged to the day on which it was taken, or to none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Claim, Client, Message, Reservation
from pipeline.failures import OutcomeUnknown, Refused
from pipeline.stages.idempotency import Idempotency
from pipeline.stages.quota import Quota
from tests.contract.stores import STORES, Store, claim_on, used_by
from tests.support.asgi import JSON, Ears, Exchange, StandingClock
from tests.support.needs import params

BEFORE = datetime(2026, 3, 1, 23, 59, 59, 900_000, tzinfo=UTC)
AFTER = BEFORE + timedelta(milliseconds=200)
MESSAGE = Message("+14155552671", "Hello", 3600)

keyed_or_not = pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "no key"])


@pytest.fixture(params=params(["redis", "embedded"], servers={"redis"}))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store = STORES[request.param](request)()
    await store.start()
    yield store
    await store.close()


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """A client of the test's own, with one message a day."""
    return Client(request.node.name, daily_quota=1)


class Midnight:
    """The app inside the stages: while it works the day ends, and then it raises this failure."""

    def __init__(self, clock: StandingClock, failure: Exception) -> None:
        self.clock = clock
        self.failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.clock.time = AFTER
        Context.of(scope).may_be_published = isinstance(self.failure, OutcomeUnknown)
        raise self.failure


async def begun(store: Store, client: Client) -> Claim:
    claim = claim_on(client)
    await store.begin(claim)
    return claim


async def sent_over_midnight(store: Store, client: Client, failure: Exception, *, keyed: bool) -> None:
    clock = StandingClock(BEFORE)
    quota = Quota(Midnight(clock, failure), store, clock, Ears())
    stages = Idempotency(quota, store, clock, Ears())
    exchange = Exchange(headers={**JSON, "idempotency-key": "key"} if keyed else JSON)
    with pytest.raises(type(failure)):
        await exchange.through(stages, client, MESSAGE)


@keyed_or_not
async def test_taken_before_and_refused_after_it_costs_neither_day(
    store: Store, client: Client, *, keyed: bool
) -> None:
    await sent_over_midnight(store, client, Refused(codes.SERVICE_UNAVAILABLE), keyed=keyed)
    assert await used_by(store, client, BEFORE.date()) == 0
    assert await used_by(store, client, AFTER.date()) == 0


@keyed_or_not
async def test_taken_before_and_unknown_after_it_costs_the_day_before(
    store: Store, client: Client, *, keyed: bool
) -> None:
    await sent_over_midnight(store, client, OutcomeUnknown(), keyed=keyed)
    assert await used_by(store, client, BEFORE.date()) == 1
    assert await used_by(store, client, AFTER.date()) == 0


async def test_a_claim_that_is_resumed_after_it_is_not_charged_to_the_day_after(
    store: Store, client: Client
) -> None:
    claim = await begun(store, client)
    await store.take(client, BEFORE.date(), "first", claim)
    await store.suspend(claim)
    resuming = await begun(store, client)
    taken = await store.take(client, AFTER.date(), "second", resuming)
    assert isinstance(taken, Reservation)
    assert taken.day == BEFORE.date()
    assert await used_by(store, client, AFTER.date()) == 0
