"""How stored messages are moved on: in order, each confirmed before it is removed, by one process at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded.database import Database
from gateway.embedded.failures import NotDone
from gateway.embedded.filelock import FileLock
from gateway.embedded.moving.mover import Mover, forward_lock
from gateway.embedded.outbox import EmbeddedOutbox, Waiting
from pipeline.envelope import Envelope
from pipeline.facts import Message
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope, usable

PATIENT_SECONDS = 30.0
WINDOW = 256


class Destination:
    """Takes what ``judge`` lets pass; ``took`` holds tracking_ids and lives (ms), in the order of their confirms."""

    def __init__(self) -> None:
        self.judge: Callable[[str], None] = lambda tracking_id: None
        self.attempts: list[str] = []
        self.took: list[tuple[str, int]] = []
        self.bodies: list[bytes] = []
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
        self.bodies.append(body)

    @property
    def arrived(self) -> list[str]:
        return [tracking_id for tracking_id, _ in self.took]


class Forgetful:
    """An outbox that cannot remove anything while ``failure`` is set."""

    def __init__(self, outbox: EmbeddedOutbox) -> None:
        self.outbox = outbox
        self.failure: NotDone | None = NotDone("there is no room")
        self.attempts = 0

    async def waiting(self, after: int = 0, limit: int = 100) -> list[Waiting]:
        return await self.outbox.waiting(after, limit)

    async def remove(self, moved: Mapping[int, str]) -> None:
        self.attempts += 1
        if self.failure is not None:
            raise self.failure
        await self.outbox.remove(moved)


class Clock:
    """Those of the mover: they go as the real ones do, and the one on the wall can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = timedelta()
        monkeypatch.setattr("gateway.embedded.moving.lifetimes.now_ms", self._now_ms)

    def set(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def _now_ms(self) -> int:
        return int((datetime.now(UTC) + self._ahead).timestamp() * 1000)


@pytest.fixture
def destination() -> Destination:
    return Destination()


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[EmbeddedOutbox]:
    outbox = EmbeddedOutbox(Database(tmp_path / "gateway.db"), confirm_seconds=PATIENT_SECONDS)
    await outbox.start()
    await usable(outbox)
    yield outbox
    await outbox.close()


def to(number: int) -> Envelope:
    return replace(envelope(), message=Message(f"+98912{number:07}", "Hello", 3600))


async def store(outbox: EmbeddedOutbox, count: int, *, numbers: int = 1000) -> list[str]:
    """Store so many messages to that many numbers, each after the 202 of the one before to its number."""
    sent: list[Envelope] = []
    for start in range(0, count, numbers):
        some = [to(number % numbers) for number in range(start, min(count, start + numbers))]
        await asyncio.gather(*map(outbox.publish, some))
        sent += some
        if numbers < count:
            await asyncio.sleep(0.002)
    return [one.tracking_id for one in sent]


async def moved(outbox: EmbeddedOutbox, destination: Destination, **options: Any) -> Mover:
    """A mover that has moved all that waits."""
    mover = Mover(outbox, destination, **options)
    async with asyncio.timeout(PATIENT_SECONDS):
        await mover.run(asyncio.Event(), follow=False)
    return mover


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


# Order.


async def test_all_are_moved_in_order_as_they_were_stored(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """More than are read at once, one at a time, with the life that is left of them."""
    sent = [to(number) for number in range(1200)]
    await asyncio.gather(*map(outbox.publish, sent))
    mover = await moved(outbox, destination)
    assert destination.arrived == [one.tracking_id for one in sent]
    assert destination.bodies == [one.to_json() for one in sent]
    assert all(3_000_000 < ttl_ms <= 3_600_000 for _, ttl_ms in destination.took)
    assert destination.most_in_flight == 1
    assert (mover.moved, mover.expired, mover.repeated, mover.unremoved) == (1200, 0, 0, 0)
    assert await outbox.count() == 0


async def test_many_are_moved_with_several_in_flight(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """Twice as many each time, up to half of the window."""
    sent = await store(outbox, 1000)
    told: list[int] = []
    await moved(outbox, destination, window=WINDOW, on_moved=told.append)
    assert destination.arrived == sent
    assert sum(told) == 1000
    assert told[:3] == [1, 2, 4]
    assert destination.most_in_flight == WINDOW // 2
    assert await outbox.count() == 0


async def test_two_messages_to_one_number_are_never_in_flight_together(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """So they keep their order even when the broker refuses the first of them and takes the next."""
    sent = await store(outbox, 60, numbers=3)
    refused: set[str] = set()

    def refuse_each_once(tracking_id: str) -> None:
        if sent.index(tracking_id) % 4 == 0 and tracking_id not in refused:
            refused.add(tracking_id)
            raise BrokerRefused("the queue is full")

    destination.judge = refuse_each_once
    await moved(outbox, destination, window=WINDOW)
    assert destination.most_in_flight <= 3
    for number in range(3):
        of_number = sent[number::3]
        assert [tracking_id for tracking_id in destination.arrived if tracking_id in of_number] == of_number


async def test_a_number_that_repeats_holds_up_no_other(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """Pairs of messages, the second after the 202 of the first, are moved with many in flight all the same."""
    sent = []
    for number in range(60):
        for _ in range(2):
            sent.append(to(number))
            await outbox.publish(sent[-1])
            await asyncio.sleep(0.0015)
    await moved(outbox, destination, window=WINDOW)
    assert destination.most_in_flight >= 32
    assert sorted(destination.arrived) == sorted(one.tracking_id for one in sent)
    arrived = {tracking_id: place for place, tracking_id in enumerate(destination.arrived)}
    assert all(
        arrived[first.tracking_id] < arrived[second.tracking_id]
        for first, second in zip(sent[::2], sent[1::2], strict=True)
    )


async def test_messages_to_one_number_that_came_together_are_moved_together(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """None of them was sent after another's 202: there is no order among them to be kept."""
    sent = [to(1) for _ in range(64)]
    await asyncio.sleep(0.002)
    await asyncio.gather(*map(outbox.publish, sent))
    await moved(outbox, destination, window=WINDOW)
    assert destination.most_in_flight > 8
    assert sorted(destination.arrived) == sorted(one.tracking_id for one in sent)


# Failures of the broker.


@pytest.mark.parametrize(
    "failure", [BrokerRefused("no"), BrokerUnknown("who knows"), ZeroDivisionError("bug")]
)
@pytest.mark.parametrize("window", [1, WINDOW])
async def test_what_is_not_confirmed_stays_and_is_tried_again(
    outbox: EmbeddedOutbox, destination: Destination, failure: Exception, window: int
) -> None:
    """From the first on, one at a time until the broker takes messages again; the operator is told why."""
    sent = await store(outbox, 10)
    failures = 4
    told: list[Exception] = []

    def fail(tracking_id: str) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise failure

    destination.judge = fail
    mover = await moved(outbox, destination, window=window, on_trouble=told.append)
    assert destination.arrived == sent
    assert destination.attempts[:5] == [sent[0]] * 5
    assert list(map(str, told)) == [str(failure)] * 4
    # Only what was left unknown may be there twice.
    assert (mover.moved, mover.repeated) == (10, 4 if isinstance(failure, BrokerUnknown) else 0)


async def test_what_was_confirmed_beside_a_failure_is_not_moved_again(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    sent = await store(outbox, 7)
    failures = [BrokerRefused("the queue is full")]

    def fail_the_third(tracking_id: str) -> None:
        if tracking_id == sent[2] and failures:
            raise failures.pop()

    destination.judge = fail_the_third
    await moved(outbox, destination, window=WINDOW)
    assert sorted(destination.arrived) == sorted(sent)


# Removing.


async def test_a_message_stays_until_it_is_confirmed(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """At the moment of each publish its message, and all behind it, are still in the file; those before are not."""
    sent = await store(outbox, 5)
    left: list[list[str]] = []

    def look(tracking_id: str) -> None:
        reader = outbox.database._reader
        query = "SELECT tracking_id FROM messages ORDER BY position"
        left.append(reader.read(lambda cursor: [row[0] for row in cursor.execute(query)]))

    destination.judge = look
    await moved(outbox, destination)
    assert left == [sent[number:] for number in range(5)]


@pytest.mark.parametrize("window", [1, WINDOW])
async def test_what_cannot_be_removed_holds_nothing_up_and_is_moved_once(
    outbox: EmbeddedOutbox, destination: Destination, window: int
) -> None:
    """A full disk keeps no message from the queue, nor fills the queue with copies; with room, all is forgotten."""
    sent = await store(outbox, 700)
    forgetful = Forgetful(outbox)
    forgetful_failure = forgetful.failure
    told: list[Exception] = []
    mover = Mover(forgetful, destination, window=window, on_trouble=told.append)
    running = asyncio.create_task(mover.run(asyncio.Event(), follow=False))
    await until(lambda: len(destination.took) == 700)
    later = await store(outbox, 5)
    # The destination has it a moment before the mover knows.
    await until(lambda: mover.moved == 705)
    assert (len(destination.took), mover.unremoved) == (705, 705)
    assert not running.done()
    assert forgetful.attempts < 60
    assert set(told) == {forgetful_failure}
    forgetful.failure = None
    async with asyncio.timeout(PATIENT_SECONDS):
        await running
    assert destination.attempts == [*sent, *later]
    assert mover.unremoved == await outbox.count() == 0


async def test_what_is_remembered_is_bounded(
    outbox: EmbeddedOutbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embedded.moving.mover._MOST_REMEMBERED", 50)
    sent = await store(outbox, 100)
    forgetful = Forgetful(outbox)
    mover, stop = Mover(forgetful, destination, window=8), asyncio.Event()
    running = asyncio.create_task(mover.run(stop, follow=False))
    await until(lambda: len(destination.took) == 50)
    await asyncio.sleep(0.3)
    assert mover.unremoved == 50
    forgetful.failure = None
    await running
    assert destination.attempts == sent


async def test_a_file_that_is_locked_when_the_confirm_comes_is_written_later(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    sent = await store(outbox, 2)
    hasty = EmbeddedOutbox(outbox.database, confirm_seconds=0.02)
    opened = threading.Event()
    told: list[Exception] = []
    holding: list[asyncio.Task[bool]] = []

    def hold_the_file(tracking_id: str) -> None:
        if not holding:
            hold = outbox.database.run(lambda _: opened.wait(PATIENT_SECONDS), PATIENT_SECONDS)
            holding.append(asyncio.create_task(hold))

    def note(error: Exception) -> None:
        told.append(error)
        opened.set()

    destination.judge = hold_the_file
    await moved(hasty, destination, on_trouble=note)
    assert destination.attempts == sent
    assert "not written" in str(told[0])
    assert await holding[0]
    assert await outbox.count() == 0


async def test_what_is_remembered_of_a_lost_file_removes_nothing_from_the_one_in_its_place(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """On a full disk operators may move the file away: its positions begin again, and are other messages'."""
    sent = await store(outbox, 20)
    forgetful = Forgetful(outbox)
    mover = Mover(forgetful, destination, window=WINDOW)
    running = asyncio.create_task(mover.run(asyncio.Event(), follow=False))
    await until(lambda: mover.unremoved == 20)
    for file in outbox.database.path.parent.iterdir():
        file.unlink()
    await asyncio.gather(*(outbox.publish(to(0)) for _ in range(2)), return_exceptions=True)
    await usable(outbox)
    later = await store(outbox, 5)
    forgetful.failure = None
    async with asyncio.timeout(PATIENT_SECONDS):
        await running
    assert destination.attempts[:20] == sent
    assert destination.attempts[-5:] == later
    assert mover.unremoved == await outbox.count() == 0


async def test_a_file_in_the_place_of_a_lost_one_is_moved_too(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """Its positions begin again."""
    mover, stop = Mover(outbox, destination, window=WINDOW), asyncio.Event()
    running = asyncio.create_task(mover.run(stop, follow=True))
    await store(outbox, 20)
    await until(lambda: mover.moved == 20 and not mover.unremoved)
    for file in outbox.database.path.parent.iterdir():
        file.unlink()
    await asyncio.gather(*(outbox.publish(to(0)) for _ in range(2)), return_exceptions=True)
    await usable(outbox)
    [later] = await store(outbox, 1)
    await until(lambda: destination.arrived[-1] == later)
    stop.set()
    await running


# Time to live.


async def test_a_message_has_the_life_that_is_left_of_it(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """None when it has expired: then it goes where expired messages go."""
    now = datetime.now(UTC)
    for seconds_ago in (5000, 1800):
        await outbox.publish(replace(envelope(), created_at=now - timedelta(seconds=seconds_ago)))
    mover = await moved(outbox, destination)
    expired, living = (ttl_ms for _, ttl_ms in destination.took)
    assert expired == 0
    assert 1_700_000 < living <= 1_800_000
    assert (mover.moved, mover.expired) == (2, 1)


async def test_a_clock_that_was_set_back_gives_no_message_a_longer_life(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """RabbitMQ refuses one of decades, and closes the channel: such a message would keep all others waiting."""
    later = datetime.now(UTC) + timedelta(days=20_000)
    await outbox.publish(replace(envelope(), created_at=later))
    await moved(outbox, destination)
    assert [ttl_ms for _, ttl_ms in destination.took] == [3_600_000]


async def test_a_clock_that_is_set_forward_while_messages_wait_lets_none_of_them_expire(
    outbox: EmbeddedOutbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when it is set right again. What comes after it was set has its own life."""
    clock = Clock(monkeypatch)
    is_away = True

    def judge(tracking_id: str) -> None:
        if is_away:
            raise BrokerRefused("not connected")

    destination.judge = judge
    mover, stop = Mover(outbox, destination, window=WINDOW), asyncio.Event()
    running = asyncio.create_task(mover.run(stop, follow=True))
    before = [to(number) for number in range(3)]
    await asyncio.gather(*map(outbox.publish, before))
    await until(lambda: len(destination.attempts) > 2)
    clock.set(timedelta(days=1000))
    attempts = len(destination.attempts)
    await until(lambda: len(destination.attempts) > attempts + 1)
    later = replace(to(4), created_at=datetime.now(UTC) + timedelta(days=1000))
    await outbox.publish(later)
    is_away = False
    await until(lambda: mover.moved == 4)
    assert destination.arrived == [one.tracking_id for one in [*before, later]]
    assert all(3_500_000 < ttl_ms <= 3_600_000 for _, ttl_ms in destination.took)
    assert mover.expired == 0
    stop.set()
    await running


# Its life.


async def test_following_moves_what_comes_until_it_is_stopped(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    stop = asyncio.Event()
    ends: list[int] = []
    mover = Mover(outbox, destination, is_waited_in=lambda: is_waited_in, on_empty=ends.append)
    is_waited_in = False
    following = asyncio.create_task(mover.run(stop, follow=True))
    for count in (3, 6):
        await store(outbox, 3)
        is_waited_in = True
        await until(lambda: mover.moved == count and not mover.unremoved)  # noqa: B023 - it is awaited here
        is_waited_in = False
        await until(lambda: len(ends) == count // 3)  # noqa: B023
    stop.set()
    await following
    assert ends == [3, 3]
    assert await outbox.count() == 0


async def test_stopping_lets_what_is_in_flight_finish(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """It is confirmed and removed; the next one is not begun."""
    sent = await store(outbox, 3)
    stop = asyncio.Event()
    destination.judge = lambda tracking_id: stop.set()
    await Mover(outbox, destination).run(stop, follow=False)
    assert destination.arrived == [sent[0]]
    assert [message.tracking_id for message in await outbox.waiting()] == sent[1:]


async def test_one_process_moves_at_a_time(outbox: EmbeddedOutbox, destination: Destination) -> None:
    """``forward`` counts as one of them; when the holder is gone another goes on."""
    path = forward_lock(outbox.database.path)
    lock = FileLock(path)
    assert lock.take()
    sent = await store(outbox, 20)
    stop = asyncio.Event()
    movers = [Mover(outbox, destination, window=WINDOW, lock_path=path) for _ in range(3)]
    running = [asyncio.create_task(mover.run(stop, follow=True)) for mover in movers]
    await asyncio.sleep(0.5)
    assert destination.attempts == []
    lock.close()
    await until(lambda: len(destination.took) == 20)
    stop.set()
    await asyncio.gather(*running)
    assert destination.attempts == sent


async def test_a_mover_whose_broker_is_away_lets_another_try(
    outbox: EmbeddedOutbox, destination: Destination
) -> None:
    """Another process may have a connection."""
    sent = await store(outbox, 5)
    cut_off = Destination()

    def refuse(tracking_id: str) -> None:
        raise BrokerRefused("not connected")

    cut_off.judge = refuse
    path, stop = forward_lock(outbox.database.path), asyncio.Event()
    first = asyncio.create_task(Mover(outbox, cut_off, lock_path=path).run(stop, follow=True))
    await until(lambda: bool(cut_off.attempts))
    second = asyncio.create_task(Mover(outbox, destination, lock_path=path).run(stop, follow=True))
    await until(lambda: destination.arrived == sent)
    stop.set()
    await asyncio.gather(first, second)
