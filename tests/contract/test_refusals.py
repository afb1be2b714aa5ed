"""What every store promises of the room that refusals take: one client may not fill it.

Who sends what is refused, each time under a fresh key, is charged nothing for it. A refusal that is not kept is judged
anew when it is asked for again.
"""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from pipeline.answer import Answer, accepted
from pipeline.facts import Client
from pipeline.ports import Begun, ClaimLost, Replay
from tests.contract.stores import TODAY, OpenStore, Store, claim_on, used_by

REFUSAL = Answer(422, b'{"error_code":"INVALID_PAYLOAD"}')
LONG_REFUSAL = Answer(422, random.Random(1).randbytes(100_000))
FEW_BYTES = 1100
KEPT = 4
"""How many of the refusals above are kept in so many bytes: a record takes 200 besides its answer."""

_fresh = map(str, itertools.count())


async def refused(store: Store, client: Client, answer: Answer = REFUSAL) -> str:
    """The key under which a request of the client was refused, with what was taken for it given back."""
    claim = claim_on(client, next(_fresh))
    assert await store.begin(claim) == Begun()
    await store.take(client, TODAY, claim.token, claim)
    await store.complete(claim, answer)
    return claim.key


async def is_kept(store: Store, client: Client, key: str, answer: Answer = REFUSAL) -> bool:
    """Whether the refusal is replayed; otherwise the key is as free as it was, for another payload too."""
    claim = claim_on(client, key)
    found = await store.begin(claim)
    if found == Replay(answer):
        return True
    assert found == Begun(armed=False)
    await store.release(claim)
    assert await store.begin(claim_on(client, key, b"another payload")) == Begun(armed=False)
    return False


async def test_so_many_bytes_of_refusals_are_kept_and_no_more(open_store: OpenStore, client: Client) -> None:
    """The first ones; whoever asks, and through whichever process."""
    stores = [await open_store(max_refusal_bytes=FEW_BYTES) for _ in range(2)]
    keys = [await refused(stores[n % 2], client) for n in range(20)]
    assert [await is_kept(stores[0], client, key) for key in keys] == [True] * KEPT + [False] * 16


async def test_refusals_at_once_are_kept_up_to_the_same_bound(open_store: OpenStore, client: Client) -> None:
    """The check and the count are one step."""
    stores = [await open_store(max_refusal_bytes=FEW_BYTES) for _ in range(2)]
    keys = await asyncio.gather(*(refused(stores[n % 2], client) for n in range(50)))
    assert sum([await is_kept(stores[0], client, key) for key in keys]) == KEPT


async def test_what_is_not_kept_costs_nothing_and_has_no_holder(
    open_store: OpenStore, client: Client
) -> None:
    """It is given back what was taken, once."""
    store = await open_store(max_refusal_bytes=0)
    await store.take(client, TODAY, "another's", None)
    claim = claim_on(client)
    await store.begin(claim)
    await store.take(client, TODAY, claim.token, claim)
    await store.complete(claim, REFUSAL)
    for step in (store.complete(claim, REFUSAL), store.release(claim), store.arm(claim)):
        with pytest.raises(ClaimLost):
            await step
    assert await used_by(store, client) == 1
    assert not await is_kept(store, client, claim.key)


async def test_a_long_refusal_takes_the_room_of_many(open_store: OpenStore, client: Client) -> None:
    """It is bytes that fill a store. One that is too long itself takes nothing from the others."""
    store = await open_store(max_refusal_bytes=FEW_BYTES)
    long = await refused(store, client, LONG_REFUSAL)
    assert not await is_kept(store, client, long, LONG_REFUSAL)
    assert await is_kept(store, client, await refused(store, client))
    roomy = await open_store(max_refusal_bytes=150_000)
    long = await refused(roomy, client, LONG_REFUSAL)
    assert await is_kept(roomy, client, long, LONG_REFUSAL)
    long = await refused(await open_store(max_refusal_bytes=2000), client, LONG_REFUSAL)
    assert not await is_kept(roomy, client, long, LONG_REFUSAL)


async def test_a_late_refusal_takes_no_room(open_store: OpenStore, client: Client) -> None:
    """Its claim is lost, and nothing of it is kept."""
    store = await open_store(max_refusal_bytes=FEW_BYTES)
    late = claim_on(client, next(_fresh))
    for _ in range(20):
        with pytest.raises(ClaimLost):
            await store.complete(late, REFUSAL)
    assert await is_kept(store, client, await refused(store, client))


async def test_other_clients_and_accepted_messages_are_kept_all_the_same(
    open_store: OpenStore, client: Client
) -> None:
    """The bound is each client's own, and what was accepted was paid for."""
    store = await open_store(max_refusal_bytes=FEW_BYTES)
    for _ in range(20):
        await refused(store, client)
    other = Client(f"other {client.name}")
    assert await is_kept(store, other, await refused(store, other))
    for number in range(20):
        claim = claim_on(client, f"accepted {number}")
        await store.begin(claim)
        await store.complete(claim, accepted(claim.tracking_id))
        assert await store.begin(claim_on(client, claim.key)) == Replay(accepted(claim.tracking_id))


async def test_refusals_are_kept_again_when_the_old_ones_have_expired(
    open_store: OpenStore, client: Client
) -> None:
    """After IDEMPOTENCY_TTL_SECONDS at the latest, whatever was refused meanwhile."""
    store = await open_store(idempotency_ttl_seconds=2, max_refusal_bytes=300)
    for _ in range(5):
        await refused(store, client)
    await asyncio.sleep(2.0)
    assert await is_kept(store, client, await refused(store, client))


async def test_who_is_refused_now_and_then_has_every_refusal_kept(
    open_store: OpenStore, client: Client
) -> None:
    """However long it goes on: each period has its own count."""
    store = await open_store(idempotency_ttl_seconds=2, max_refusal_bytes=600)
    for _ in range(4):
        # At most two of them in a period, for which there is room.
        assert await is_kept(store, client, await refused(store, client))
        await asyncio.sleep(1.1)
