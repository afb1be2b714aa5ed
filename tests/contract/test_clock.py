"""What every store promises when its clock jumps: ahead, back, and there and back again.

Nothing is sent twice for it under two tracking ids, no claim is held for longer than a lease, and what an answer or a
count is worth does not hang on the clock until it is so far ahead that all of it has expired.
"""

from __future__ import annotations

import pytest

from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, InProgress, QuotaExceeded, Replay
from tests.contract.clocks import CLOCKS, Jump
from tests.contract.stores import ON_SERVERS, STORES, TODAY, Construct, Store, claim_on, used_by
from tests.contract.test_claims import try_all
from tests.support.needs import params

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
LEASE = 15.0

REFUSAL = Answer(422, b'{"error_code":"INVALID_PAYLOAD"}')

BACK = pytest.mark.parametrize(
    "seconds", [LEASE / 2, HOUR, DAY, YEAR], ids=["half a lease", "hour", "day", "year"]
)
THERE_AND_BACK = pytest.mark.parametrize(
    "jumps",
    [
        (HOUR,),
        (HOUR, -HOUR),
        *((-far,) for far in (HOUR, DAY, YEAR)),
        *((-far, far) for far in (HOUR, DAY, YEAR)),
    ],
    ids=[
        "an hour ahead",
        "an hour ahead and back",
        *("an hour back", "a day back", "a year back"),
        *("an hour back and ahead", "a day back and ahead", "a year back and ahead"),
    ],
)


@pytest.fixture(params=params(CLOCKS, servers=ON_SERVERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Which store it is; only those whose clock can be made to jump."""
    name: str = request.param
    return name


@pytest.fixture
def construct(request: pytest.FixtureRequest, kind: str) -> Construct:
    """Makes stores of this kind that share their data."""
    return STORES[kind](request)


@pytest.fixture
def jump(request: pytest.FixtureRequest, kind: str) -> Jump:
    """Lets the store's clock jump."""
    return CLOCKS[kind](request)


async def charged(store: Store, client: Client) -> Claim:
    """A claim whose message may be on the queue."""
    claim = claim_on(client)
    await store.begin(claim)
    assert isinstance(await store.take(client, TODAY, claim.token, claim), Reservation)
    return claim


@BACK
async def test_a_lease_ends_when_the_clock_goes_back(
    store: Store, client: Client, jump: Jump, seconds: float
) -> None:
    """It would hold the claim for as long. Who resumes it learns that it is armed, and is not charged again."""
    paused = await charged(store, client)
    jump(client, -seconds)
    other = claim_on(client)
    assert await store.begin(other) == Begun(armed=True)
    await try_all(store, paused)
    assert isinstance(await store.take(client, TODAY, other.token, other), Reservation)
    await store.complete(other, accepted(other.tracking_id))
    assert await store.begin(claim_on(client)) == Replay(accepted(paused.tracking_id))
    assert await used_by(store, client) == 1


@BACK
async def test_who_resumes_holds_the_claim_by_the_clock_that_went_back(
    store: Store, client: Client, jump: Jump, seconds: float
) -> None:
    """For a lease, and no longer, wherever the clock goes next."""
    await charged(store, client)
    jump(client, -seconds)
    await store.begin(claim_on(client))
    found = await store.begin(claim_on(client))
    assert isinstance(found, InProgress)
    assert found.milliseconds_left <= LEASE * 1000
    jump(client, seconds + LEASE)
    assert await store.begin(claim_on(client)) == Begun(armed=seconds + LEASE < DAY)


async def test_a_holder_settles_whatever_the_clock_does(store: Store, client: Client, jump: Jump) -> None:
    """Where nobody has resumed the claim, its token decides."""
    claim = await charged(store, client)
    for seconds in (HOUR, -HOUR, -YEAR, YEAR):
        jump(client, seconds)
        await store.arm(claim)
    await store.complete(claim, accepted(claim.tracking_id))
    assert await store.begin(claim_on(client)) == Replay(accepted(claim.tracking_id))


@THERE_AND_BACK
async def test_an_answer_outlives_a_jump(
    store: Store, client: Client, jump: Jump, jumps: tuple[float, ...]
) -> None:
    """A retry is answered as before, and charged as before."""
    claim = await charged(store, client)
    await store.complete(claim, accepted(claim.tracking_id))
    for seconds in jumps:
        jump(client, seconds)
        assert await store.begin(claim_on(client)) == Replay(accepted(claim.tracking_id))
        assert await used_by(store, client) == 1


@BACK
async def test_a_message_without_a_key_is_given_back_once_by_a_clock_that_went_back(
    store: Store, client: Client, jump: Jump, seconds: float
) -> None:
    """And a take that comes after that takes nothing."""
    await store.take(client, TODAY, "another's", None)
    reservation = await store.take(client, TODAY, "token", None)
    assert isinstance(reservation, Reservation)
    jump(client, -seconds)
    for _ in range(2):
        await store.give_back(reservation)
        jump(client, -seconds)
        assert isinstance(await store.take(client, TODAY, "token", None), QuotaExceeded)
        assert await used_by(store, client) == 1


async def test_what_is_given_back_after_a_jump_ahead_is_given_back_once_or_not_at_all(
    store: Store, client: Client, jump: Jump
) -> None:
    """What was noted of it may have expired, and then it stays counted; nothing of another's is given back."""
    await store.take(client, TODAY, "another's", None)
    reservation = await store.take(client, TODAY, "token", None)
    assert isinstance(reservation, Reservation)
    for seconds in (HOUR, -HOUR):
        jump(client, seconds)
        for _ in range(2):
            await store.give_back(reservation)
    assert await used_by(store, client) in (1, 2)


async def test_a_clock_far_ahead_forgets_what_has_expired_by_it(
    store: Store, client: Client, jump: Jump
) -> None:
    """Nobody can tell it from a clock that is right. A retry is published once more, under the same tracking_id."""
    claim = await charged(store, client)
    await store.complete(claim, accepted(claim.tracking_id))
    jump(client, YEAR)
    again = claim_on(client)
    assert await store.begin(again) == Begun()
    assert again.tracking_id == claim.tracking_id


async def test_what_is_under_way_when_the_clock_goes_far_ahead_settles_nothing(
    store: Store, client: Client, jump: Jump
) -> None:
    """Its record has expired: its steps say so, and touch nothing of who comes after it."""
    late = await charged(store, client)
    jump(client, YEAR)
    await try_all(store, late)
    after = await charged(store, client)
    await try_all(store, late)
    await store.complete(after, REFUSAL)
    assert await store.begin(claim_on(client)) == Replay(REFUSAL)
