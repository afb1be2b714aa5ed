"""What every outbox promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest

import schemas
from pipeline.ports import BrokerRefused
from tests.contract.outboxes import ON_SERVERS, OUTBOXES, Harness, LivingOutbox, envelope, usable
from tests.support.needs import params


@pytest.fixture(params=params(OUTBOXES, servers=ON_SERVERS))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """A place of the test's own."""
    async with OUTBOXES[request.param](request) as harness:
        yield harness


@contextlib.asynccontextmanager
async def opened(harness: Harness) -> AsyncIterator[LivingOutbox]:
    """A usable outbox, closed in the end."""
    outbox = harness.outbox()
    await outbox.start()
    try:
        await usable(outbox)
        yield outbox
    finally:
        await outbox.close()


@pytest.fixture
async def outbox(harness: Harness) -> AsyncIterator[LivingOutbox]:
    """A usable outbox."""
    async with opened(harness) as outbox:
        yield outbox


async def test_it_is_the_broker_of_health_reports(outbox: LivingOutbox) -> None:
    assert outbox.name == "broker"


async def test_what_is_published_is_stored_byte_for_byte(outbox: LivingOutbox, harness: Harness) -> None:
    published = envelope()
    await outbox.publish(published)
    assert await harness.stored() == [(published.tracking_id, published.to_json())]


@pytest.mark.parametrize("text", ["x", "\U0001f389" * 1600, 'quotes " and \\ and \x01 and \u2028', "سلام"])
async def test_what_is_stored_keeps_the_schema(outbox: LivingOutbox, harness: Harness, text: str) -> None:
    await outbox.publish(envelope(text))
    [(tracking_id, body)] = await harness.stored()
    document = orjson.loads(body)
    assert schemas.load("envelope").violations(document) == []
    assert document["tracking_id"] == tracking_id
    assert document["text"] == text


async def test_messages_of_one_sender_keep_their_order(outbox: LivingOutbox, harness: Harness) -> None:
    sent = [envelope() for _ in range(20)]
    for one in sent:
        await outbox.publish(one)
    assert [tracking_id for tracking_id, _ in await harness.stored()] == [one.tracking_id for one in sent]


async def test_concurrent_messages_are_all_stored_once(outbox: LivingOutbox, harness: Harness) -> None:
    sent = [envelope() for _ in range(300)]
    await asyncio.gather(*map(outbox.publish, sent))
    stored = [tracking_id for tracking_id, _ in await harness.stored()]
    assert sorted(stored) == sorted(one.tracking_id for one in sent)


async def test_one_message_published_at_the_same_time_is_stored_once(
    outbox: LivingOutbox, harness: Harness
) -> None:
    published = envelope()
    await asyncio.gather(*(outbox.publish(published) for _ in range(20)))
    assert [tracking_id for tracking_id, _ in await harness.stored()] == [published.tracking_id]


async def test_publishing_a_message_again_succeeds(outbox: LivingOutbox, harness: Harness) -> None:
    published = envelope()
    await outbox.publish(published)
    await outbox.publish(published)
    assert {tracking_id for tracking_id, _ in await harness.stored()} == {published.tracking_id}


async def test_outboxes_of_several_processes_share_one_queue(harness: Harness) -> None:
    async with opened(harness) as one, opened(harness) as other:
        sent = [envelope() for _ in range(40)]
        await asyncio.gather(*(outbox.publish(sent[i]) for i, outbox in enumerate([one, other] * 20)))
    assert {tracking_id for tracking_id, _ in await harness.stored()} == {one.tracking_id for one in sent}


async def test_what_is_stored_outlives_the_outbox(harness: Harness) -> None:
    published = envelope()
    async with opened(harness) as outbox:
        await outbox.publish(published)
    assert [tracking_id for tracking_id, _ in await harness.stored()] == [published.tracking_id]


async def test_who_gives_up_disturbs_nobody_else(outbox: LivingOutbox, harness: Harness) -> None:
    impatient = [asyncio.create_task(outbox.publish(envelope())) for _ in range(10)]
    patient = [envelope() for _ in range(10)]
    publishing = asyncio.gather(*map(outbox.publish, patient))
    await asyncio.sleep(0)
    for task in impatient:
        task.cancel()
    await publishing
    ends = await asyncio.gather(*impatient, return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
    last = envelope()
    await outbox.publish(last)
    stored = [tracking_id for tracking_id, _ in await harness.stored()]
    assert {one.tracking_id for one in [*patient, last]} <= set(stored)
    assert len(stored) == len(set(stored))


async def test_a_message_that_was_given_up_can_be_published_again(
    outbox: LivingOutbox, harness: Harness
) -> None:
    published = envelope()
    given_up = asyncio.create_task(outbox.publish(published))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await outbox.publish(published)
    assert {tracking_id for tracking_id, _ in await harness.stored()} == {published.tracking_id}


async def test_a_follower_that_gives_up_disturbs_nobody_else(outbox: LivingOutbox, harness: Harness) -> None:
    published = envelope()
    publishing = [asyncio.create_task(outbox.publish(published)) for _ in range(5)]
    await asyncio.sleep(0)
    publishing[2].cancel()
    first, second, third, *others = await asyncio.gather(*publishing, return_exceptions=True)
    assert [first, second, *others] == [None] * 4
    assert third is None or isinstance(third, asyncio.CancelledError)
    assert [tracking_id for tracking_id, _ in await harness.stored()] == [published.tracking_id]


async def test_a_closed_outbox_refuses(harness: Harness) -> None:
    async with opened(harness) as outbox:
        pass
    with pytest.raises(BrokerRefused):
        await outbox.publish(envelope())
    assert await harness.stored() == []


async def test_closing_is_told_to_the_watcher_as_opening_is(harness: Harness) -> None:
    told: list[bool] = []
    outbox = harness.outbox(told.append)
    await outbox.start()
    await usable(outbox)
    assert told == [True]
    await outbox.close()
    assert told in ([True], [True, False])


async def test_start_does_not_wait_and_close_needs_no_connection(harness: Harness) -> None:
    outbox = harness.outbox()
    await outbox.start()
    await outbox.close()
    async with opened(harness) as other:
        await other.publish(envelope())
    assert len(await harness.stored()) == 1
