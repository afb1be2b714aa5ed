"""The stage ``quota``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.store import EmbeddedStore
from pipeline import codes
from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Message, Reservation
from pipeline.failures import OutcomeUnknown, Refused
from pipeline.ports import Begun, ClaimLost, QuotaExceeded, StoreUnavailable
from pipeline.stages.quota import Quota
from tests.support.asgi import NOON, Ears, Exchange, Inner, StandingClock
from tests.support.scripted import ScriptedStore

TODAY = NOON.date()
MESSAGE = Message("+14155552671", "Hello", 60)
TWO_A_DAY = Client("acme", daily_quota=2)
NO_LIMIT = Client("acme")
POLICY = '"daily";q=2;w=86400'
REFUSED = Refused(codes.NO_PROVIDER_AVAILABLE)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = EmbeddedStore(Database(tmp_path / "gateway.db"), call_seconds=30)
    await opened.start()
    yield opened
    await opened.close()


def stage(
    store: EmbeddedStore | ScriptedStore,
    inner: Inner,
    *,
    now: datetime = NOON,
    ears: Ears | None = None,
    on_store_error: str = "reject",
) -> Quota:
    return Quota(inner, store, StandingClock(now), ears or Ears(), on_store_error)


def claim() -> Claim:
    return Claim.on(TWO_A_DAY, "key", b"\0" * 32)


async def used(store: EmbeddedStore, day: date = TODAY) -> int:
    asked = await store.take(Client("acme", daily_quota=0), day, "ask", None)
    assert isinstance(asked, QuotaExceeded)
    return asked.used


async def test_a_message_is_taken_and_what_remains_is_told(store: EmbeddedStore) -> None:
    """The answer says the limit, what is left and the seconds to 00:00 UTC."""
    inner = Inner(publishes=True)
    exchange = await Exchange().through(stage(store, inner), TWO_A_DAY, MESSAGE)
    assert exchange.context.headers == {
        b"ratelimit-policy": POLICY.encode(),
        b"ratelimit": b'"daily";r=1;t=43200',
    }
    assert inner.context[Reservation].used == 1
    assert await used(store) == 1


async def test_a_used_up_quota_refuses_until_the_reset(store: EmbeddedStore) -> None:
    """The third of two is refused, reaches nothing, costs nothing, and is told when the new day begins."""
    for _ in range(2):
        await Exchange().through(stage(store, Inner(publishes=True)), TWO_A_DAY, MESSAGE)
    inner = Inner()
    exchange = Exchange()
    with pytest.raises(Refused, match="TOO_MANY_REQUESTS") as refused:
        await exchange.through(stage(store, inner), TWO_A_DAY, MESSAGE)
    assert refused.value.retry_after == 43200
    assert exchange.context.headers[b"ratelimit"] == b'"daily";r=0;t=43200'
    assert exchange.context.headers[b"ratelimit-policy"] == POLICY.encode()
    assert inner.reached == []
    assert await used(store) == 2


async def test_a_quota_of_nothing_accepts_nothing(store: EmbeddedStore) -> None:
    """0 is a limit, not the absence of one."""
    exchange = Exchange()
    with pytest.raises(Refused, match="TOO_MANY_REQUESTS"):
        await exchange.through(stage(store, Inner()), Client("acme", daily_quota=0), MESSAGE)
    assert exchange.context.headers[b"ratelimit-policy"] == b'"daily";q=0;w=86400'


async def test_without_a_limit_nothing_is_told_and_all_is_counted(store: EmbeddedStore) -> None:
    """A client without a limit is served without RateLimit fields; a limit given later counts what it sent."""
    exchange = await Exchange().through(stage(store, Inner(publishes=True)), NO_LIMIT, MESSAGE)
    assert exchange.context.headers == {}
    assert await used(store) == 1


async def test_what_is_refused_inside_is_given_back(store: EmbeddedStore) -> None:
    """A refused request costs nothing, and its answer tells what remains without it."""
    exchange = Exchange()
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await exchange.through(stage(store, Inner(REFUSED)), TWO_A_DAY, MESSAGE)
    assert await used(store) == 0
    assert exchange.context.headers[b"ratelimit"] == b'"daily";r=2;t=43200'


@pytest.mark.parametrize("error", [RuntimeError("bug"), asyncio.CancelledError()], ids=repr)
async def test_what_fails_before_the_publish_is_given_back(
    store: EmbeddedStore, error: BaseException
) -> None:
    """A bug or a cancellation inside, before anything was published, costs nothing either."""
    with pytest.raises(type(error)):
        await Exchange().through(stage(store, Inner(error)), TWO_A_DAY, MESSAGE)
    assert await used(store) == 0


async def test_what_an_inner_stage_answers_by_itself_is_given_back(store: EmbeddedStore) -> None:
    """Nothing was published: not even an operator's stage that says 200 makes it cost something."""
    exchange = await Exchange().through(stage(store, Inner(Answer(200, b"{}"))), TWO_A_DAY, MESSAGE)
    assert exchange.status == 200
    assert await used(store) == 0


@pytest.mark.parametrize(
    "outcome", [OutcomeUnknown(), REFUSED, RuntimeError("bug"), TimeoutError()], ids=repr
)
async def test_what_may_have_been_published_is_kept(store: EmbeddedStore, outcome: Exception) -> None:
    """Once the publish began the charge stays, whatever is raised on the way out."""
    exchange = Exchange()
    with pytest.raises(type(outcome)):
        await exchange.through(stage(store, Inner(outcome, begins_to_publish=True)), TWO_A_DAY, MESSAGE)
    assert await used(store) == 1
    assert exchange.context.headers[b"ratelimit"] == b'"daily";r=1;t=43200'


async def test_an_unknown_outcome_of_nothing_published_is_given_back(store: EmbeddedStore) -> None:
    """What decides is whether a publish began, not what an exception is called."""
    with pytest.raises(OutcomeUnknown):
        await Exchange().through(stage(store, Inner(OutcomeUnknown())), TWO_A_DAY, MESSAGE)
    assert await used(store) == 0


async def test_a_message_is_given_back_to_the_day_it_was_taken_from(store: EmbeddedStore) -> None:
    """Taken a moment before midnight and refused a moment after it, the old day has it back."""
    before = datetime(2026, 3, 1, 23, 59, 59, 900_000, tzinfo=UTC)
    clock = StandingClock(before)

    class PastMidnight(Inner):
        async def __call__(self, *arguments: object) -> None:
            clock.time = datetime(2026, 3, 2, 0, 0, 0, 100_000, tzinfo=UTC)
            raise REFUSED

    with pytest.raises(Refused):
        await Exchange().through(Quota(PastMidnight(), store, clock, Ears()), TWO_A_DAY, MESSAGE)
    assert await used(store, date(2026, 3, 1)) == 0
    assert await used(store, date(2026, 3, 2)) == 0


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), 86400),
        (datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), 1),
        (datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC), 1),
        (datetime(2026, 12, 31, 23, 0, 0, 1, tzinfo=UTC), 3600),
    ],
    ids=str,
)
async def test_who_waits_for_the_reset_finds_a_new_day(now: datetime, seconds: int) -> None:
    """The seconds to the reset are rounded up."""
    store = ScriptedStore(take=QuotaExceeded(2))
    with pytest.raises(Refused) as refused:
        await Exchange().through(stage(store, Inner(), now=now), TWO_A_DAY, MESSAGE)
    assert refused.value.retry_after == seconds


async def test_taking_arms_the_claim_in_the_same_step(store: EmbeddedStore) -> None:
    """With a key there is one store call for both, and the claim knows it."""
    held = claim()
    assert await store.begin(held) == Begun()
    inner = Inner(publishes=True)
    await Exchange().through(stage(store, inner), TWO_A_DAY, MESSAGE, held)
    assert held.armed
    assert inner.context[Reservation].used == 1


async def test_what_was_taken_under_a_claim_is_left_to_the_claim() -> None:
    """It goes back in the step that settles the claim; the answer tells already what will remain."""
    store = ScriptedStore()
    exchange = Exchange()
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await exchange.through(stage(store, Inner(REFUSED)), TWO_A_DAY, MESSAGE, claim())
    assert store.steps == ["take"]
    assert exchange.context.headers[b"ratelimit"] == b'"daily";r=2;t=43200'


async def test_the_claims_release_gives_it_back(store: EmbeddedStore) -> None:
    """As the stage outside does it: of a refused request nothing stays counted."""
    held = claim()
    await store.begin(held)
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await Exchange().through(stage(store, Inner(REFUSED)), TWO_A_DAY, MESSAGE, held)
    assert await used(store) == 1
    await store.release(held)
    assert await used(store) == 0


async def test_a_resumed_claim_keeps_its_charge(store: EmbeddedStore) -> None:
    """What an earlier request may have published stays charged, once, whatever becomes of its retry."""
    first, second = claim(), claim()
    await store.begin(first)
    unknown = Inner(OutcomeUnknown(), begins_to_publish=True)
    with pytest.raises(OutcomeUnknown):
        await Exchange().through(stage(store, unknown), TWO_A_DAY, MESSAGE, first)
    await store.suspend(first)
    assert await store.begin(second) == Begun(armed=True)
    second.armed = True
    retry = Exchange()
    retry.context.may_be_published = True
    with pytest.raises(Refused):
        await retry.through(stage(store, Inner(REFUSED)), TWO_A_DAY, MESSAGE, second)
    assert await used(store) == 1
    assert retry.context.headers[b"ratelimit"] == b'"daily";r=1;t=43200'


async def test_a_lost_claim_takes_nothing() -> None:
    """Another request has resumed the key: this one is told to ask again."""
    inner = Inner()
    with pytest.raises(Refused, match="IDEMPOTENCY_IN_PROGRESS") as refused:
        await Exchange().through(stage(ScriptedStore(take=ClaimLost()), inner), TWO_A_DAY, MESSAGE, claim())
    assert refused.value.retry_after == 1
    assert inner.reached == []


async def test_without_a_store_the_policy_decides() -> None:
    """``reject`` refuses; ``allow`` serves without a reservation, tells of it, and gives nothing back."""
    down = StoreUnavailable("no answer")
    with pytest.raises(Refused, match="SERVICE_UNAVAILABLE"):
        await Exchange().through(stage(ScriptedStore(take=down), Inner()), TWO_A_DAY, MESSAGE)
    ears, inner, allowed = Ears(), Inner(publishes=True), ScriptedStore(take=down)
    allowing = stage(allowed, inner, ears=ears, on_store_error="allow")
    exchange = await Exchange().through(allowing, TWO_A_DAY, MESSAGE)
    assert exchange.status == 202
    assert inner.context.get(Reservation) is None
    assert exchange.context.headers == {}
    assert ears.store_failures == [("quota", "take", "StoreUnavailable")]
    assert allowed.steps == ["take"]


@pytest.mark.parametrize(
    ("error", "steps"),
    [
        (StoreUnavailable("no answer"), ["take", "give_back"]),
        (StoreUnavailable("not connected", may_be_done=False), ["take"]),
        (asyncio.CancelledError(), ["take", "give_back"]),
    ],
    ids=["no answer", "not sent", "cancelled"],
)
@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
async def test_a_take_that_may_have_happened_is_undone(
    error: BaseException, steps: list[str], *, keyed: bool
) -> None:
    """By the token that it was tried with, to its day; under a claim the claim's release does it."""
    store = ScriptedStore(take=error)
    facts = (TWO_A_DAY, MESSAGE, claim()) if keyed else (TWO_A_DAY, MESSAGE)
    with pytest.raises((Refused, asyncio.CancelledError)):
        await Exchange().through(stage(store, Inner()), *facts)
    assert store.steps == (["take"] if keyed else steps)
    if "give_back" in store.steps:
        (_, _, day, token, _), (_, given_back) = store.calls
        assert given_back == Reservation("acme", TODAY, 2, 0, str(token))
        assert day == TODAY


async def test_a_take_that_was_never_sent_is_not_undone() -> None:
    """Nothing can have been taken: the store that is away is not asked again for nothing."""
    store = ScriptedStore(take=StoreUnavailable("not connected", may_be_done=False))
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await Exchange().through(stage(store, Inner(REFUSED), on_store_error="allow"), TWO_A_DAY, MESSAGE)
    assert store.steps == ["take"]


async def test_a_take_that_failed_is_undone_when_nothing_was_published() -> None:
    """Where the store may be missing, it is the end that tells whether the message is owed; a limit is not told."""
    store = ScriptedStore(take=StoreUnavailable("no answer"))
    exchange = Exchange()
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await exchange.through(stage(store, Inner(REFUSED), on_store_error="allow"), TWO_A_DAY, MESSAGE)
    assert store.steps == ["take", "give_back"]
    assert exchange.context.headers == {}
    (_, _, _, token, _), (_, given_back) = store.calls
    assert isinstance(given_back, Reservation)
    assert given_back.token == token


async def test_a_refusal_stands_though_giving_back_fails() -> None:
    """The client learns why it was refused, and what remains once it is given back; the failed step is told."""
    ears = Ears()
    store = ScriptedStore(give_back=StoreUnavailable("no answer"))
    exchange = Exchange()
    with pytest.raises(Refused, match="NO_PROVIDER_AVAILABLE"):
        await exchange.through(stage(store, Inner(REFUSED), ears=ears), TWO_A_DAY, MESSAGE)
    assert ears.store_failures == [("quota", "give_back", "StoreUnavailable")]
    # The store tries again in the background: see gateway.retries.
    assert exchange.context.headers[b"ratelimit"] == b'"daily";r=2;t=43200'


async def test_every_request_takes_with_a_token_of_its_own() -> None:
    """Giving back one message never gives back another's."""
    store = ScriptedStore()
    for _ in range(2):
        await Exchange().through(stage(store, Inner(publishes=True)), TWO_A_DAY, MESSAGE)
    first, second = (call[3] for call in store.calls)
    assert first != second


def test_another_policy_is_refused() -> None:
    """A misspelt ``on_store_error`` is found at start-up."""
    with pytest.raises(ValueError, match="on_store_error"):
        stage(ScriptedStore(), Inner(), on_store_error="maybe")
