"""What every store promises of ``Claims``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import date
from typing import Any, Literal

import pytest

from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client
from pipeline.ports import Begun, ClaimLost, InProgress, OtherPayload, Replay
from tests.contract.stores import NAMES, TODAY, YESTERDAY, OpenStore, Store, claim_on, used_by

REFUSAL = Answer(422, b'{"error_code":"INVALID_PAYLOAD"}')

LONG_REFUSAL = Answer(422, b'{"error_code":"INVALID_PAYLOAD","details":' + b"x" * 1000 + b"}")

ANSWERS = {
    "plain 202": None,
    "small refusal": REFUSAL,
    "refusal of 100 KB": Answer(422, b'{"errors":"' + bytes(range(256)) * 400 + b'"}'),
    "no body": Answer(409, b""),
    "lines and nulls": Answer(422, b"\n\r\n\0 200 text/html\n\n"),
    "a 202 of an operator's stage": Answer(202, b"queued", b"text/plain; charset=utf-8"),
}

Step = Callable[[Store, Claim], Coroutine[Any, Any, object]]

STEPS: dict[str, Step] = {
    "arm": lambda store, claim: store.arm(claim),
    "complete": lambda store, claim: store.complete(claim, REFUSAL),
    "take": lambda store, claim: store.take(Client(claim.client), TODAY, claim.token, claim),
    "release": lambda store, claim: store.release(claim),
    "suspend": lambda store, claim: store.suspend(claim),
}


async def lapsed(open_store: OpenStore, claim: Claim) -> None:
    """Begin ``claim`` and let its lease go over."""
    hasty = await open_store(lease_seconds=0.001)
    assert await hasty.begin(claim) == Begun()
    await asyncio.sleep(0.02)


async def try_all(store: Store, claim: Claim) -> None:
    """Take every step with a claim that is lost."""
    for step in STEPS.values():
        with pytest.raises(ClaimLost):
            await step(store, claim)


async def test_a_free_key_is_begun(store: Store, client: Client) -> None:
    """The first request on a key gets the claim, not armed."""
    assert await store.begin(claim_on(client)) == Begun(armed=False)


async def test_a_held_key_is_in_progress(store: Store, client: Client) -> None:
    """A second request is told for how long the first may hold the claim: what is left of the lease of 15 s."""
    await store.begin(claim_on(client))
    found = await store.begin(claim_on(client))
    assert isinstance(found, InProgress)
    assert 10_000 < found.milliseconds_left <= 15_000


@pytest.mark.parametrize(
    ("state", "first"),
    [
        ("pending", "in_progress"),
        ("armed", "in_progress"),
        ("suspended", "in_progress"),
        ("refused", "refused"),
        ("accepted", "accepted"),
        ("accepted by an operator's stage", "accepted"),
    ],
)
async def test_another_payload_is_told_what_became_of_the_first(
    store: Store, client: Client, state: str, first: Literal["accepted", "refused", "in_progress"]
) -> None:
    """A key belongs to the payload that it was first used with, whatever became of it."""
    claim = claim_on(client)
    await store.begin(claim)
    if state == "armed":
        await store.arm(claim)
    if state == "suspended":
        await store.suspend(claim)
    if state == "refused":
        await store.complete(claim, LONG_REFUSAL)
    if state == "accepted":
        await store.complete(claim, accepted(claim.tracking_id))
    if state == "accepted by an operator's stage":
        await store.complete(claim, Answer(202, b"queued" * 100))
    assert await store.begin(claim_on(client, payload=b"another")) == OtherPayload(first)


async def test_another_payload_changes_nothing(store: Store, client: Client) -> None:
    """A request with another payload leaves the claim to its holder."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.begin(claim_on(client, payload=b"another"))
    await store.complete(claim, REFUSAL)
    assert await store.begin(claim_on(client)) == Replay(REFUSAL)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_replayed_byte_for_byte(
    store: Store, client: Client, answer: Answer | None
) -> None:
    """Status, body and content type come back as they were, again and again."""
    claim = claim_on(client)
    answer = answer or accepted(claim.tracking_id)
    await store.begin(claim)
    await store.arm(claim)
    await store.complete(claim, answer)
    for _ in range(2):
        assert await store.begin(claim_on(client)) == Replay(answer)


async def test_headers_of_the_first_answer_are_not_replayed(store: Store, client: Client) -> None:
    """What concerned the first answer only, such as Retry-After, is not kept."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.complete(claim, replace(REFUSAL, headers=((b"retry-after", b"1"),)))
    assert await store.begin(claim_on(client)) == Replay(REFUSAL)


async def test_a_refusal_completes_a_claim_that_was_never_armed(store: Store, client: Client) -> None:
    """A verdict on the payload is kept without anything having been taken."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.complete(claim, REFUSAL)
    assert not claim.armed
    assert await store.begin(claim_on(client)) == Replay(REFUSAL)


@pytest.mark.parametrize("day", [TODAY, YESTERDAY], ids=["today", "yesterday"])
async def test_a_refusal_gives_back_what_was_taken(store: Store, client: Client, day: date) -> None:
    """The step that stores the refusal does it, to the day it was taken from, and late steps do it no more."""
    charged, other = claim_on(client, "charged"), claim_on(client, "other")
    for claim in (charged, other):
        await store.begin(claim)
        await store.take(client, day, claim.token, claim)
    assert await used_by(store, client, day) == 2
    await store.complete(charged, REFUSAL)
    assert await used_by(store, client, day) == 1
    await try_all(store, charged)
    assert await used_by(store, client, day) == 1
    assert await store.begin(claim_on(client, "charged")) == Replay(REFUSAL)


async def test_a_refusal_of_which_nothing_was_taken_gives_nothing_back(store: Store, client: Client) -> None:
    """What others have taken is theirs, whether the claim was armed or not."""
    await store.take(client, TODAY, "another's", None)
    for key in ("armed", "not armed"):
        claim = claim_on(client, key)
        await store.begin(claim)
        if key == "armed":
            await store.arm(claim)
        await store.complete(claim, REFUSAL)
    assert await used_by(store, client) == 1


async def test_begin_sent_twice_gives_the_same(store: Store, client: Client) -> None:
    """A request does not wait for itself: a begin that arrives again finds its own token."""
    claim = claim_on(client)
    assert await store.begin(claim) == Begun()
    assert await store.begin(claim) == Begun()
    assert isinstance(await store.begin(claim_on(client)), InProgress)


async def test_begin_sent_twice_gives_the_same_when_it_resumes(store: Store, client: Client) -> None:
    """A resuming begin that arrives again still says that the message may be on the queue."""
    first = claim_on(client)
    await store.begin(first)
    await store.arm(first)
    await store.suspend(first)
    second = claim_on(client)
    assert await store.begin(second) == Begun(armed=True)
    assert await store.begin(second) == Begun(armed=True)
    assert isinstance(await store.begin(claim_on(client)), InProgress)


async def test_arming_is_noted_in_the_claim(store: Store, client: Client) -> None:
    """Whoever armed a claim knows it; arming it again changes nothing."""
    claim = claim_on(client)
    await store.begin(claim)
    for _ in range(2):
        await store.arm(claim)
        assert claim.armed
    assert isinstance(await store.begin(claim_on(client)), InProgress)


async def test_a_lease_that_is_over_frees_the_claim(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """When the holder is gone before it armed the claim, the next request begins afresh and holds it."""
    await lapsed(open_store, claim_on(client))
    assert await store.begin(claim_on(client)) == Begun(armed=False)
    assert isinstance(await store.begin(claim_on(client)), InProgress)


async def test_a_resumed_claim_is_still_armed(store: Store, open_store: OpenStore, client: Client) -> None:
    """When the holder is gone after it armed the claim, every later request learns of it."""
    gone = claim_on(client)
    await lapsed(open_store, gone)
    await store.arm(gone)
    hasty = await open_store(lease_seconds=0.001)
    assert await hasty.begin(claim_on(client)) == Begun(armed=True)
    await asyncio.sleep(0.02)
    assert await store.begin(claim_on(client)) == Begun(armed=True)


async def test_a_suspended_claim_is_resumed_at_once(store: Store, client: Client) -> None:
    """An unknown outcome keeps nobody waiting: the claim stays armed and has no lease."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.arm(claim)
    await store.suspend(claim)
    assert await store.begin(claim_on(client)) == Begun(armed=True)


async def test_a_suspended_claim_that_was_not_armed_begins_afresh(store: Store, client: Client) -> None:
    """Suspending arms nothing."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.suspend(claim)
    assert await store.begin(claim_on(client)) == Begun(armed=False)


async def test_a_holder_may_settle_after_its_lease_if_nobody_resumed(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """The token decides, not the time: nobody else has touched what the slow request completes."""
    slow = claim_on(client)
    await lapsed(open_store, slow)
    await store.arm(slow)
    await store.complete(slow, accepted(slow.tracking_id))
    assert await store.begin(claim_on(client)) == Replay(accepted(slow.tracking_id))


async def test_a_released_key_is_free(store: Store, client: Client) -> None:
    """After a release the key may be used again, even with another payload."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.release(claim)
    assert await store.begin(claim_on(client, payload=b"another")) == Begun(armed=False)


async def test_a_released_key_is_free_even_if_it_was_armed(store: Store, client: Client) -> None:
    """What the broker refused for certain leaves nothing behind."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.take(client, TODAY, claim.token, claim)
    await store.release(claim)
    assert await store.begin(claim_on(client)) == Begun(armed=False)
    assert await used_by(store, client) == 0


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
async def test_an_old_token_is_told_that_it_is_lost(store: Store, client: Client, step: Step) -> None:
    """Every step says when the claim has another holder, and changes nothing."""
    old, new = claim_on(client), claim_on(client)
    await store.begin(old)
    await store.suspend(old)
    await store.begin(new)
    with pytest.raises(ClaimLost):
        await step(store, old)
    assert not old.armed
    assert await used_by(store, client) == 0
    assert isinstance(await store.begin(claim_on(client)), InProgress)
    await store.suspend(new)
    assert await store.begin(claim_on(client)) == Begun(armed=False)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
async def test_an_old_token_settles_nothing(store: Store, client: Client, step: Step) -> None:
    """A late step leaves the new holder its claim and its charge."""
    old, new = claim_on(client), claim_on(client)
    await store.begin(old)
    await store.take(client, TODAY, old.token, old)
    await store.suspend(old)
    await store.begin(new)
    with pytest.raises(ClaimLost):
        await step(store, old)
    assert await used_by(store, client) == 1
    assert isinstance(await store.begin(claim_on(client)), InProgress)
    await store.suspend(new)
    assert await store.begin(claim_on(client)) == Begun(armed=True)


async def test_a_worker_paused_past_its_lease_changes_nothing(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """None of its late steps touches what the one who resumed it has done and is doing."""
    paused, other = claim_on(client), claim_on(client)
    await lapsed(open_store, paused)
    await store.begin(other)
    await try_all(store, paused)
    await store.take(client, TODAY, other.token, other)
    await try_all(store, paused)
    await store.complete(other, accepted(other.tracking_id))
    await try_all(store, paused)
    assert await store.begin(claim_on(client)) == Replay(accepted(other.tracking_id))
    assert await used_by(store, client) == 1


async def test_a_key_that_was_never_begun_has_no_holder(store: Store, client: Client) -> None:
    """Steps on a record that is not there, or no longer, create none."""
    await try_all(store, claim_on(client))
    assert await used_by(store, client) == 0
    assert await store.begin(claim_on(client)) == Begun()


async def test_a_done_claim_has_no_holder(store: Store, client: Client) -> None:
    """An answer once stored stays, whatever its former holder does."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.take(client, TODAY, claim.token, claim)
    await store.complete(claim, accepted(claim.tracking_id))
    await try_all(store, claim)
    assert await store.begin(claim_on(client)) == Replay(accepted(claim.tracking_id))
    assert await used_by(store, client) == 1


async def test_of_simultaneous_requests_one_begins(store: Store, client: Client) -> None:
    """50 at once on a free key: one gets the claim, the others wait."""
    found = await asyncio.gather(*(store.begin(claim_on(client)) for _ in range(50)))
    assert found.count(Begun()) == 1
    assert sum(isinstance(one, InProgress) for one in found) == 49


async def test_of_simultaneous_requests_one_resumes(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """50 at once on a claim whose lease is over, through two stores: one resumes it, the others wait."""
    gone = claim_on(client)
    await lapsed(open_store, gone)
    await store.arm(gone)
    stores = (store, await open_store())
    found = await asyncio.gather(*(stores[n % 2].begin(claim_on(client)) for n in range(50)))
    assert found.count(Begun(armed=True)) == 1
    assert sum(isinstance(one, InProgress) for one in found) == 49


async def test_equal_keys_of_two_clients_are_apart(store: Store, client: Client) -> None:
    """A key means nothing outside of its client."""
    other = Client(f"other {client.name}")
    mine = claim_on(client)
    await store.begin(mine)
    await store.complete(mine, REFUSAL)
    assert await store.begin(claim_on(other, payload=b"another")) == Begun()


async def test_two_api_keys_of_one_client_share_its_claims(store: Store, client: Client) -> None:
    """Clients are known by name, so a rotated API key finds the answers to the old one's requests."""
    claim = claim_on(client)
    await store.begin(claim)
    await store.complete(claim, accepted(claim.tracking_id))
    rotated = Client(client.name, daily_quota=7)
    assert await store.begin(claim_on(rotated)) == Replay(accepted(claim.tracking_id))


async def test_odd_names_of_clients_are_apart(store: Store) -> None:
    """Any printable name has claims of its own, braces and spaces included."""
    run = secrets.token_hex(8)
    for name in NAMES:
        claim = claim_on(Client(run + name))
        assert await store.begin(claim) == Begun(), name
        await store.complete(claim, Answer(422, name.encode()))
    for name in NAMES:
        assert await store.begin(claim_on(Client(run + name))) == Replay(Answer(422, name.encode()))


async def test_odd_keys_are_apart(store: Store, client: Client) -> None:
    """Keys differ by every character that they may hold, and by each of up to 255."""
    visible = [chr(code) for code in range(0x21, 0x7F)]
    keys = [*visible, "".join(visible), "x" * 254, "x" * 255, "x" * 254 + "y", "X" * 255, "key:key", "{key}"]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert await store.begin(claim_on(client, key)) == Begun(), key
    for key in keys:
        assert isinstance(await store.begin(claim_on(client, key)), InProgress), key


async def test_an_answer_is_forgotten_after_its_life(open_store: OpenStore, client: Client) -> None:
    """After IDEMPOTENCY_TTL_SECONDS the key is free again, for another payload too."""
    store = await open_store(idempotency_ttl_seconds=1)
    claim = claim_on(client)
    await store.begin(claim)
    await store.complete(claim, REFUSAL)
    await asyncio.sleep(1.1)
    assert await store.begin(claim_on(client, payload=b"another")) == Begun()


async def test_a_store_opened_later_knows_the_claims(
    store: Store, open_store: OpenStore, client: Client
) -> None:
    """What one process notes, another one finds."""
    claim = claim_on(client)
    await store.begin(claim)
    later = await open_store()
    assert isinstance(await later.begin(claim_on(client)), InProgress)
    await later.arm(claim)
    await store.complete(claim, REFUSAL)
    assert await later.begin(claim_on(client)) == Replay(REFUSAL)
