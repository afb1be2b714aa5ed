"""Which messages go to the spool, and what is known of each when broker, spool or both fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.dependency import Degraded
from gateway.embedded.database import Database
from gateway.spool import outbox as outbox_module
from gateway.spool.file import Spool, SpoolFull
from gateway.spool.outbox import SpoolingOutbox
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope, usable
from tests.support.waiting import eventually

AWAY = BrokerRefused("RabbitMQ is not connected: connection refused")
DOUBT = BrokerUnknown("no confirm within 5 s")


class Broker:
    """Takes messages while ``failure`` is None; ``took`` holds their tracking_ids, in order."""

    name = "broker"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.hangs = False
        self.took: list[str] = []
        self.is_open = False

    async def start(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def ping(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def publish(self, envelope: Envelope) -> None:
        await self.publish_body(envelope.tracking_id, b"", 0, envelope.created_at)

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        await asyncio.sleep(60 if self.hangs else 0)
        if self.failure is not None:
            raise self.failure
        self.took.append(tracking_id)


@pytest.fixture
def broker() -> Broker:
    return Broker()


OpenSpool = Callable[..., contextlib.AbstractAsyncContextManager[SpoolingOutbox]]


@pytest.fixture
def opened(broker: Broker, tmp_path: Path) -> OpenSpool:
    """Opens outboxes on one file, as the workers of a gateway do."""

    @contextlib.asynccontextmanager
    async def open_one(limit: int = 100, **options: Any) -> AsyncIterator[SpoolingOutbox]:
        spool = Spool(Database(tmp_path / "spool.db"), limit)
        outbox = SpoolingOutbox(broker, spool, **options)
        await outbox.start()
        try:
            with contextlib.suppress(Degraded):
                await usable(spool.outbox)
            yield outbox
        finally:
            await outbox.close()

    return open_one


@pytest.fixture
async def outbox(opened: OpenSpool) -> AsyncIterator[SpoolingOutbox]:
    async with opened() as outbox:
        yield outbox


async def waiting(outbox: SpoolingOutbox) -> list[str]:
    return [message.tracking_id for message in await outbox.spool.outbox.waiting()]


async def until_empty(outbox: SpoolingOutbox) -> None:
    await eventually(lambda: not outbox.spool.is_waited_in())


async def publish(outbox: SpoolingOutbox, count: int = 1) -> list[str]:
    """Publish so many messages, one after the other."""
    sent = [envelope() for _ in range(count)]
    for one in sent:
        await outbox.publish(one)
    return [one.tracking_id for one in sent]


# Where a message goes.


async def test_while_the_broker_takes_messages_nothing_is_spooled(
    outbox: SpoolingOutbox, broker: Broker
) -> None:
    assert await publish(outbox, 3) == broker.took
    assert await waiting(outbox) == []


@pytest.mark.parametrize("failure", [AWAY, DOUBT], ids=["refused", "unknown"])
async def test_what_the_broker_does_not_take_is_accepted_and_moved_in_order(
    opened: OpenSpool, broker: Broker, failure: Exception
) -> None:
    spooled: list[None] = []
    moved: list[int] = []
    async with opened(on_spooled=lambda: spooled.append(None), on_moved=moved.append) as outbox:
        broker.failure = failure
        sent = await publish(outbox, 5)
        assert await waiting(outbox) == sent
        assert (len(spooled), moved) == (5, [])
        broker.failure = None
        await until_empty(outbox)
        assert broker.took == sent
        # The rows are gone a moment before it is told.
        async with asyncio.timeout(10):
            while sum(moved) < 5:
                await asyncio.sleep(0.01)
        assert sum(moved) == 5


async def test_while_anything_waits_what_comes_waits_behind_it(
    opened: OpenSpool, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process too, although the broker would take it."""
    async with opened() as outbox, opened() as other:
        for each in (outbox, other):
            monkeypatch.setattr(each._mover, "_take_lock", lambda: False)
        broker.failure = AWAY
        sent = await publish(outbox)
        broker.failure = None
        sent += await publish(other) + await publish(outbox)
        assert broker.took == []
        assert await waiting(outbox) == sent
        monkeypatch.undo()
        await until_empty(outbox)
        assert broker.took == sent


async def test_who_waits_for_nobody_goes_past_the_spool_once_the_broker_has_recovered(
    opened: OpenSpool, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only messages to a number that waits wait behind it, in every process; before that, all do."""
    monkeypatch.setattr("gateway.spool.recovery.CALM_SECONDS", 0.1)
    one, two, three, other_number = (envelope() for _ in range(4))
    other_number = replace(other_number, message=replace(other_number.message, to="+14155552671"))
    async with opened(limit=10_000) as outbox, opened(limit=10_000) as other:
        for each in (outbox, other):
            monkeypatch.setattr(each._mover, "_take_lock", lambda: False)
        broker.failure = AWAY
        await outbox.publish(one)
        broker.failure = None
        await outbox.publish(other_number)
        assert await waiting(outbox) == [one.tracking_id, other_number.tracking_id]
        passed: list[SpoolingOutbox] = []
        numbers = itertools.count(1_000_000)
        async with asyncio.timeout(30):
            while len(passed) < 2:
                for each in (outbox, other):
                    stranger = replace(envelope(), message=replace(one.message, to=f"+49123{next(numbers)}"))
                    await each.publish(stranger)
                    if broker.took[-1:] == [stranger.tracking_id] and each not in passed:
                        passed.append(each)
                await asyncio.sleep(0.05)
        before = len(broker.took)
        await outbox.publish(two)
        await other.publish(three)
        assert len(broker.took) == before
        monkeypatch.undo()
        await until_empty(outbox)
        of_number = [
            found for found in broker.took if found in {one.tracking_id, two.tracking_id, three.tracking_id}
        ]
        assert of_number == [one.tracking_id, two.tracking_id, three.tracking_id]


async def test_a_broker_that_does_not_answer_is_not_waited_for_long(
    opened: OpenSpool, broker: Broker
) -> None:
    broker.hangs = True
    async with opened(patience_seconds=0.05) as outbox:
        sent = await publish(outbox, 2)
        assert await waiting(outbox) == sent


async def test_a_request_that_is_cancelled_is_not_spooled(outbox: SpoolingOutbox, broker: Broker) -> None:
    broker.hangs = True
    publishing = asyncio.create_task(outbox.publish(envelope()))
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert await waiting(outbox) == []


# The bound.


async def test_a_full_spool_refuses_until_it_has_been_emptied(opened: OpenSpool, broker: Broker) -> None:
    async with opened(limit=3) as outbox:
        broker.failure = AWAY
        sent = await publish(outbox, 3)
        for _ in range(2):
            with pytest.raises(SpoolFull):
                await outbox.publish(envelope())
        assert await waiting(outbox) == sent
        broker.failure = None
        await until_empty(outbox)
        sent += await publish(outbox)
        assert broker.took == sent


@pytest.mark.parametrize("failure", [AWAY, DOUBT], ids=["refused", "unknown"])
async def test_what_neither_takes_is_what_the_broker_made_of_it(
    outbox: SpoolingOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Refused only when it is certainly on neither."""

    async def refuse(published: Envelope) -> None:
        raise BrokerRefused("there is no room on the disk")

    monkeypatch.setattr(outbox.spool.outbox, "publish", refuse)
    broker.failure = failure
    with pytest.raises(type(failure), match="there is no room on the disk") as raised:
        await outbox.publish(envelope())
    assert str(raised.value).startswith(str(failure))


async def test_what_the_spool_may_have_is_unknown(
    outbox: SpoolingOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def doubt(published: Envelope) -> None:
        raise BrokerUnknown("not written within 5 s")

    monkeypatch.setattr(outbox.spool.outbox, "publish", doubt)
    broker.failure = AWAY
    with pytest.raises(BrokerUnknown, match="not written"):
        await outbox.publish(envelope())


# A disk that fails.


@pytest.mark.parametrize("seen", [(1, True), (0, False)], ids=["something waits", "it cannot be read"])
async def test_a_disk_that_fails_does_not_keep_messages_from_a_broker_that_works(
    outbox: SpoolingOutbox, broker: Broker, monkeypatch: pytest.MonkeyPatch, seen: tuple[int, bool]
) -> None:
    """Whether or not it can be seen that something waits there."""

    async def refuse(published: Envelope) -> None:
        raise BrokerRefused("there is no room on the disk")

    monkeypatch.setattr(outbox.spool.outbox, "publish", refuse)
    monkeypatch.setattr(outbox.spool, "look_for", lambda number: seen)
    assert await publish(outbox) == broker.took


# What is told of it.


async def test_the_outbox_answers_for_the_broker_alone(outbox: SpoolingOutbox, broker: Broker) -> None:
    assert outbox.name == "broker"
    await outbox.ping()
    broker.failure = AWAY
    with pytest.raises(BrokerRefused):
        await outbox.ping()


# Its life.


async def test_what_waits_outlives_the_process(opened: OpenSpool, broker: Broker) -> None:
    broker.failure = AWAY
    async with opened() as outbox:
        sent = await publish(outbox, 3)
    assert not broker.is_open
    broker.failure = None
    async with opened() as outbox:
        await until_empty(outbox)
    assert broker.took == sent


async def test_what_is_in_flight_at_the_end_is_moved_after_the_next_start(
    opened: OpenSpool, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that does not answer does not hold up the end for long."""
    monkeypatch.setattr(outbox_module, "_STOP_SECONDS", 0.05)
    broker.hangs = True
    async with asyncio.timeout(30):
        async with opened(patience_seconds=0.05) as outbox:
            sent = await publish(outbox)
            await asyncio.sleep(0.2)
    broker.hangs = False
    async with opened() as outbox:
        await until_empty(outbox)
    assert broker.took == sent
