"""What every store promises of ``Quotas``, with a claim and without."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import date

import pytest

from pipeline.answer import accepted
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, ClaimLost, InProgress, QuotaExceeded
from tests.contract.stores import NAMES, TODAY, YESTERDAY, OpenStore, Store, claim_on, used_by

KEYED = pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])


async def begun(store: Store, client: Client, key: str = "key") -> Claim:
    """A claim that is held."""
    claim = claim_on(client, key)
    found = await store.begin(claim)
    assert isinstance(found, Begun)
    claim.armed = found.armed
    return claim


async def take(
    store: Store, client: Client, day: date = TODAY, *, claim: Claim | None = None
) -> Reservation | QuotaExceeded:
    """Take one message as the stage does, with a fresh token."""
    return await store.take(client, day, secrets.token_hex(8), claim)


async def taken(
    store: Store, client: Client, day: date = TODAY, *, claim: Claim | None = None
) -> Reservation:
    """Take one message, which there is."""
    reservation = await take(store, client, day, claim=claim)
    assert isinstance(reservation, Reservation)
    return reservation


async def maybe_claim(store: Store, client: Client, *, keyed: bool) -> Claim | None:
    """A claim on a key that is used once, or none."""
    return await begun(store, client, secrets.token_hex(4)) if keyed else None


@KEYED
async def test_messages_are_counted(store: Store, client: Client, *, keyed: bool) -> None:
    """A reservation says what it is of: client, day, limit, and how many are used with it."""
    limited = replace(client, daily_quota=3)
    for used in (1, 2, 3):
        claim = await maybe_claim(store, client, keyed=keyed)
        reservation = await store.take(limited, TODAY, f"token {used}", claim)
        assert reservation == Reservation(client.name, TODAY, 3, used, f"token {used}")
        assert isinstance(reservation, Reservation)
        assert reservation.remaining == 3 - used
    assert await used_by(store, client) == 3


@KEYED
async def test_over_the_limit_nothing_is_taken(store: Store, client: Client, *, keyed: bool) -> None:
    """When the day's messages are spent it says how many, and stays at that."""
    limited = replace(client, daily_quota=2)
    for _ in range(2):
        await taken(store, limited, claim=await maybe_claim(store, client, keyed=keyed))
    for _ in range(3):
        claim = await maybe_claim(store, client, keyed=keyed)
        assert await take(store, limited, claim=claim) == QuotaExceeded(used=2)
    assert await used_by(store, client) == 2


@KEYED
async def test_a_quota_of_none_accepts_nothing(store: Store, client: Client, *, keyed: bool) -> None:
    """A limit of 0 is a limit."""
    claim = await maybe_claim(store, client, keyed=keyed)
    assert await take(store, replace(client, daily_quota=0), claim=claim) == QuotaExceeded(used=0)


@KEYED
async def test_without_a_limit_messages_are_still_counted(
    store: Store, client: Client, *, keyed: bool
) -> None:
    """A limit that is set later in the day finds what was sent before."""
    for _ in range(3):
        await taken(store, client, claim=await maybe_claim(store, client, keyed=keyed))
    claim = await maybe_claim(store, client, keyed=keyed)
    assert await take(store, replace(client, daily_quota=3), claim=claim) == QuotaExceeded(used=3)


@KEYED
async def test_500_at_once_against_99_left_take_99(
    store: Store, open_store: OpenStore, client: Client, *, keyed: bool
) -> None:
    """The check and the count are one step, in one process and between two."""
    limited = replace(client, daily_quota=100)
    await taken(store, limited)
    claims = await asyncio.gather(*(maybe_claim(store, client, keyed=keyed) for _ in range(500)))
    stores = (store, await open_store())
    found = await asyncio.gather(
        *(take(stores[n % 2], limited, claim=claim) for n, claim in enumerate(claims))
    )
    reservations = [one for one in found if isinstance(one, Reservation)]
    assert sorted(one.used for one in reservations) == list(range(2, 101))
    assert found.count(QuotaExceeded(used=100)) == 401
    assert await used_by(store, client) == 100


async def test_days_are_apart(store: Store, client: Client) -> None:
    """A new day begins at nothing."""
    limited = replace(client, daily_quota=1)
    await taken(store, limited, YESTERDAY)
    assert await take(store, limited, YESTERDAY) == QuotaExceeded(used=1)
    assert (await taken(store, limited, TODAY)).used == 1


async def test_clients_are_apart(store: Store) -> None:
    """Any printable name has a count of its own, braces and spaces included."""
    run = secrets.token_hex(8)
    for name in NAMES:
        assert (await taken(store, Client(run + name, daily_quota=1))).used == 1, name
    for name in NAMES:
        assert await used_by(store, Client(run + name)) == 1, name


async def test_two_api_keys_of_one_client_share_its_quota(store: Store, client: Client) -> None:
    """Clients are known by name: rotating an API key gives no fresh quota."""
    old, new = (Client(client.name, daily_quota=2) for _ in range(2))
    await taken(store, old)
    assert (await taken(store, new)).used == 2
    assert await take(store, old) == QuotaExceeded(used=2)


@KEYED
async def test_a_changed_limit_holds_at_once(store: Store, client: Client, *, keyed: bool) -> None:
    """The limit is the one that the request comes with: lowered below what is used it stops, raised it goes on."""
    for _ in range(5):
        await taken(store, replace(client, daily_quota=10))
    claim = await maybe_claim(store, client, keyed=keyed)
    assert await take(store, replace(client, daily_quota=3), claim=claim) == QuotaExceeded(used=5)
    assert (await taken(store, replace(client, daily_quota=6), claim=claim)).used == 6


async def undo(store: Store, reservation: Reservation, claim: Claim | None) -> None:
    """Give back as the stages do: what was taken under a claim goes back with the claim."""
    if claim is None:
        await store.give_back(reservation)
    else:
        await store.release(claim)


@KEYED
async def test_what_is_given_back_may_be_taken_again(store: Store, client: Client, *, keyed: bool) -> None:
    """A refused request leaves the quota as it found it."""
    limited = replace(client, daily_quota=1)
    for _ in range(3):
        claim = await maybe_claim(store, client, keyed=keyed)
        await undo(store, await taken(store, limited, claim=claim), claim)
    assert await used_by(store, client) == 0


@KEYED
async def test_a_message_is_given_back_once(store: Store, client: Client, *, keyed: bool) -> None:
    """However often and from wherever it is given back, others' messages stay counted."""
    for _ in range(2):
        await taken(store, client)
    claim = await maybe_claim(store, client, keyed=keyed)
    reservation = await taken(store, client, claim=claim)
    undone = await asyncio.gather(
        *(undo(store, reservation, claim) for _ in range(20)), return_exceptions=True
    )
    # A claim says so, and nothing else needs to be said.
    assert [type(lost) for lost in undone if lost is not None] == [ClaimLost] * (19 if keyed else 0)
    with suppress(ClaimLost):
        await undo(store, reservation, claim)
    assert await used_by(store, client) == 2


@KEYED
async def test_a_message_is_given_back_to_its_day(store: Store, client: Client, *, keyed: bool) -> None:
    """Taken before midnight and refused after it, it is given back to the day before."""
    claim = await maybe_claim(store, client, keyed=keyed)
    reservation = await taken(store, client, YESTERDAY, claim=claim)
    await taken(store, client, TODAY)
    await undo(store, reservation, claim)
    assert await used_by(store, client, YESTERDAY) == 0
    assert await used_by(store, client, TODAY) == 1


async def test_a_take_sent_twice_counts_once(store: Store, client: Client) -> None:
    """A take that arrives again finds its own token, and no limit stops it."""
    limited = replace(client, daily_quota=1)
    first = await store.take(limited, TODAY, "token", None)
    assert await store.take(limited, TODAY, "token", None) == first
    assert await used_by(store, client) == 1


async def test_a_take_that_arrives_after_its_give_back_takes_nothing(store: Store, client: Client) -> None:
    """Who gave up waiting for a take gives back what it may have taken: late, it finds that it is not wanted."""
    await taken(store, client)
    await store.give_back(Reservation(client.name, TODAY, None, 1, "late"))
    assert await store.take(client, TODAY, "late", None) == QuotaExceeded(used=1)
    assert await used_by(store, client) == 1
    await store.give_back(Reservation(client.name, TODAY, None, 1, "late"))
    assert await used_by(store, client) == 1


async def test_taking_arms_the_claim(store: Store, client: Client) -> None:
    """Whoever resumes it learns that the message may be on the queue."""
    claim = await begun(store, client)
    await taken(store, client, claim=claim)
    assert claim.armed
    await store.suspend(claim)
    assert (await begun(store, client)).armed


async def test_over_the_limit_the_claim_is_not_armed(store: Store, client: Client) -> None:
    """It stays with its holder as it was, to be released."""
    claim = await begun(store, client)
    assert await take(store, replace(client, daily_quota=0), claim=claim) == QuotaExceeded(used=0)
    assert not claim.armed
    assert isinstance(await store.begin(claim_on(client)), InProgress)
    await store.suspend(claim)
    assert not (await begun(store, client)).armed


async def test_a_charged_claim_is_not_charged_again(store: Store, client: Client) -> None:
    """Who resumes it gets the reservation of the day on which it was charged."""
    claim = await begun(store, client)
    await taken(store, client, YESTERDAY, claim=claim)
    await store.suspend(claim)
    resumed = await begun(store, client)
    again = await taken(store, client, TODAY, claim=resumed)
    assert (again.day, again.used) == (YESTERDAY, 1)
    assert await used_by(store, client, YESTERDAY) == 1
    assert await used_by(store, client, TODAY) == 0


async def test_a_charged_claim_is_not_checked_again(store: Store, client: Client) -> None:
    """A message that may be on the queue is not refused because others used up the quota, or because it was lowered."""
    claim = await begun(store, client)
    await taken(store, client, claim=claim)
    await store.suspend(claim)
    await taken(store, client)
    resumed = await begun(store, client)
    assert (await taken(store, replace(client, daily_quota=0), claim=resumed)).used == 2


async def test_an_armed_claim_that_was_not_charged_is_charged_unchecked(store: Store, client: Client) -> None:
    """Sent once without the quota (while it was off, or while the store failed it), it is counted and not refused."""
    claim = await begun(store, client)
    await store.arm(claim)
    await store.suspend(claim)
    resumed = await begun(store, client)
    assert (await taken(store, replace(client, daily_quota=0), claim=resumed)).used == 1
    assert (await taken(store, replace(client, daily_quota=0), claim=resumed)).used == 1
    assert await used_by(store, client) == 1


async def test_giving_back_leaves_a_claim_alone(store: Store, client: Client) -> None:
    """What was taken under a claim goes back with the claim and in no other way, or it would go back twice."""
    claim = await begun(store, client)
    await store.give_back(await taken(store, client, claim=claim))
    assert claim.armed
    assert await used_by(store, client) == 1
    await store.suspend(claim)
    assert (await begun(store, client)).armed


async def test_after_a_release_it_is_as_if_nothing_had_been_taken(store: Store, client: Client) -> None:
    """Nothing was published: the next request is checked and charged as the first was."""
    claim = await begun(store, client)
    await taken(store, client, claim=claim)
    await store.release(claim)
    fresh = await begun(store, client)
    assert not fresh.armed
    assert await take(store, replace(client, daily_quota=0), claim=fresh) == QuotaExceeded(used=0)
    assert (await taken(store, client, claim=fresh)).used == 1


async def test_a_lost_claim_takes_nothing(store: Store, client: Client) -> None:
    """A take with an old token changes neither the count nor the claim."""
    old = await begun(store, client)
    await store.suspend(old)
    new = await begun(store, client)
    with pytest.raises(ClaimLost):
        await take(store, client, claim=old)
    assert not old.armed
    assert await used_by(store, client) == 0
    await store.suspend(new)
    assert not (await begun(store, client)).armed


async def test_a_take_that_arrives_after_its_release_takes_nothing(store: Store, client: Client) -> None:
    """Who gave up waiting for a take releases the claim: late, it finds no claim."""
    claim = await begun(store, client)
    await store.release(claim)
    with pytest.raises(ClaimLost):
        await take(store, client, claim=claim)
    assert await used_by(store, client) == 0


async def test_a_late_release_leaves_the_charge_of_who_resumed(store: Store, client: Client) -> None:
    """The claim's token decides who may give back what was taken under it."""
    old = await begun(store, client)
    await taken(store, client, claim=old)
    await store.suspend(old)
    new = await begun(store, client)
    with pytest.raises(ClaimLost):
        await store.release(old)
    assert await used_by(store, client) == 1
    await taken(store, client, claim=new)
    await store.release(new)
    assert await used_by(store, client) == 0


async def test_release_gives_back_what_was_taken_once(store: Store, client: Client) -> None:
    """A release gives back what is charged, to the day it was taken from, and nothing more."""
    await taken(store, client, YESTERDAY)
    claim = await begun(store, client)
    await taken(store, client, YESTERDAY, claim=claim)
    await store.release(claim)
    with pytest.raises(ClaimLost):
        await store.release(claim)
    assert await used_by(store, client, YESTERDAY) == 1
    assert await used_by(store, client, TODAY) == 0


async def test_an_accepted_message_stays_charged(store: Store, client: Client) -> None:
    """After the answer is stored nothing gives it back."""
    claim = await begun(store, client)
    await taken(store, client, claim=claim)
    await store.complete(claim, accepted(claim.tracking_id))
    with pytest.raises(ClaimLost):
        await store.release(claim)
    assert await used_by(store, client) == 1


async def test_an_unknown_outcome_stays_charged(store: Store, client: Client) -> None:
    """Suspending keeps the charge: the message may be on the queue."""
    claim = await begun(store, client)
    await taken(store, client, claim=claim)
    await store.suspend(claim)
    assert await used_by(store, client) == 1


async def test_of_simultaneous_takes_under_one_claim_one_counts(store: Store, client: Client) -> None:
    """One claim is charged once, however often it is tried."""
    claim = await begun(store, client)
    await asyncio.gather(*(taken(store, client, claim=claim) for _ in range(20)))
    assert await used_by(store, client) == 1


async def test_counts_are_kept_for_a_store_opened_later(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """What one process takes, another one finds and may give back."""
    reservation = await taken(store, client)
    later = await open_store()
    assert await used_by(later, client) == 1
    await later.give_back(reservation)
    assert await used_by(store, client) == 0
