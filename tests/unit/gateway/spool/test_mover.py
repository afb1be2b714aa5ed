"""How the spool is emptied: in order, each message confirmed before it is removed, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.failures import NotDone
from gateway.embedded.filelock import FileLock
from gateway.spool.mover import SpoolMover
from gateway.spool.spool import Spool
from pipeline.envelope import Envelope
from pipeline.facts import Message
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope, usable


class Destination:
    """Takes what ``judge`` lets pass; ``took`` holds tracking_ids and lives (ms), in the order of their confirms."""

    def __init__(self) -> None:
        self.judge: Callable[[str], None] = lambda tracking_id: None
        self.attempts: list[str] = []
        self.took: list[tuple[str, int]] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        self.attempts.append(tracking_id)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= 1
        self.judge(tracking_id)
        self.took.append((tracking_id, ttl_ms))

    @property
    def arrived(self) -> list[str]:
        return [tracking_id for tracking_id, _ in self.took]


@pytest.fixture
def destination() -> Destination:
    return Destination()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(Database(tmp_path / "spool.db"), 10_000)
    await spool.start()
    await usable(spool)
    yield spool
    await spool.close()


async def store(spool: Spool, count: int, *, numbers: int = 1000) -> list[str]:
    """Store so many messages to that many numbers."""
    sent = [to(f"+98912{1000000 + number % numbers}") for number in range(count)]
    for one in sent:
        await spool.publish(one)
    return [one.tracking_id for one in sent]


def to(number: str) -> Envelope:
    return replace(envelope(), message=Message(number, "Hello", 3600))


async def move(spool: Spool, destination: Destination, *, seconds: float = 30) -> list[int]:
    """Let a mover run until nothing waits; returns what it told of its progress."""
    moved: list[int] = []
    mover = SpoolMover(spool, destination, moved.append)
    running = asyncio.create_task(mover.run())
    async with asyncio.timeout(seconds):
        while spool.is_waited_in():
            await asyncio.sleep(0.005)
        mover.stop()
        await running
    return moved


async def test_many_are_moved_in_order_with_several_in_flight(spool: Spool, destination: Destination) -> None:
    sent = await store(spool, 500)
    moved = await move(spool, destination)
    assert destination.arrived == sent
    assert sum(moved) == 500
    assert moved[:3] == [1, 2, 4]
    assert destination.most_in_flight == 128
    assert await spool.outbox.count() == 0


async def test_two_messages_to_one_number_are_never_in_flight_together(
    spool: Spool, destination: Destination
) -> None:
    """So they keep their order even when the broker refuses the first of them."""
    sent = await store(spool, 60, numbers=3)
    refused: set[str] = set()

    def refuse_each_once(tracking_id: str) -> None:
        if sent.index(tracking_id) % 4 == 0 and tracking_id not in refused:
            refused.add(tracking_id)
            raise BrokerRefused("the queue is full")

    destination.judge = refuse_each_once
    await move(spool, destination)
    assert destination.most_in_flight <= 3
    for number in range(3):
        of_number = sent[number::3]
        assert [tracking_id for tracking_id in destination.arrived if tracking_id in of_number] == of_number


@pytest.mark.parametrize("failure", [BrokerRefused("no"), BrokerUnknown("who knows"), ZeroDivisionError()])
async def test_what_is_not_confirmed_stays_and_is_tried_again(
    spool: Spool, destination: Destination, failure: Exception
) -> None:
    """From the first on, one at a time until the broker takes messages again."""
    sent = await store(spool, 10)
    failures = 4

    def fail(tracking_id: str) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise failure

    destination.judge = fail
    await move(spool, destination)
    assert destination.arrived == sent
    assert destination.attempts[:5] == [sent[0]] * 5


async def test_what_was_confirmed_beside_a_failure_is_not_moved_again(
    spool: Spool, destination: Destination
) -> None:
    sent = await store(spool, 7)
    failures = [BrokerRefused("the queue is full")]

    def fail_the_third(tracking_id: str) -> None:
        if tracking_id == sent[2] and failures:
            raise failures.pop()

    destination.judge = fail_the_third
    await move(spool, destination)
    assert sorted(destination.arrived) == sorted(sent)


async def test_what_cannot_be_removed_is_moved_once_all_the_same(
    spool: Spool, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk does not fill the queue with copies."""
    sent = await store(spool, 3)
    remove = spool.outbox.remove
    failures = [NotDone("there is no room") for _ in range(3)]

    async def fail(positions: list[int]) -> None:
        if failures:
            raise failures.pop()
        await remove(positions)

    monkeypatch.setattr(spool.outbox, "remove", fail)
    await move(spool, destination)
    assert destination.arrived == sent


async def test_a_message_has_the_life_that_is_left_of_it(spool: Spool, destination: Destination) -> None:
    """None when it has expired: then it goes where expired messages go."""
    now = datetime.now(UTC)
    for seconds_ago in (5000, 1800):
        await spool.publish(replace(envelope(), created_at=now - timedelta(seconds=seconds_ago)))
    await move(spool, destination)
    expired, living = (ttl_ms for _, ttl_ms in destination.took)
    assert expired == 0
    assert 1_700_000 < living <= 1_800_000


async def test_one_process_moves_at_a_time(spool: Spool, destination: Destination) -> None:
    """``forward`` counts as one of them; when the holder is gone another goes on."""
    lock = FileLock(spool.path.with_name(f"{spool.path.name}-forward"))
    assert lock.take()
    sent = await store(spool, 20)
    movers = [SpoolMover(spool, destination, lambda moved: None) for _ in range(3)]
    running = [asyncio.create_task(mover.run()) for mover in movers]
    await asyncio.sleep(0.5)
    assert destination.attempts == []
    lock.close()
    async with asyncio.timeout(30):
        while spool.is_waited_in():
            await asyncio.sleep(0.01)
        for mover in movers:
            mover.stop()
        await asyncio.gather(*running)
    assert destination.attempts == sent
