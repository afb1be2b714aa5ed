"""The outbox and the heartbeats on a real RabbitMQ: what is on it, and what is told of it when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiormq
import pytest

from gateway.rabbitmq import RabbitHeartbeats, RabbitOutbox, probe, publisher
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import RabbitHarness, envelope, usable
from tests.support.broker import channel_of, consume
from tests.support.servers import HOST, RabbitServer
from tests.support.waiting import eventually

SHORT = 0.5
"""A confirm deadline, in seconds, for tests that wait until it is over."""

Ctl = Callable[..., Awaitable[str]]
OpenOutbox = Callable[..., Awaitable[RabbitOutbox]]


@pytest.fixture(params=["quorum"])
async def place(request: pytest.FixtureRequest, rabbit_server: RabbitServer) -> AsyncIterator[RabbitHarness]:
    """Exchanges and queues of the test's own; on quorum queues unless it asks for others."""
    place = RabbitHarness(rabbit_server.url, request.param)
    yield place
    await place.remove()


both_queue_types = pytest.mark.parametrize("place", ["quorum", "classic"], indirect=True)


@pytest.fixture
async def open_outbox(place: RabbitHarness) -> AsyncIterator[OpenOutbox]:
    """Opens outboxes of this place, and closes them in the end without leaving a task behind."""
    before = asyncio.all_tasks()
    opened: list[RabbitOutbox] = []

    async def open_one(*, url: str = place.url, wait: bool = True, **options: Any) -> RabbitOutbox:
        outbox = RabbitOutbox(url, place.topology, "server-a", **options)
        opened.append(outbox)
        await outbox.start()
        if wait:
            await usable(outbox)
        return outbox

    yield open_one
    for outbox in opened:
        await outbox.close()
    await nothing_left_running(before)


@pytest.fixture
async def outbox(open_outbox: OpenOutbox) -> RabbitOutbox:
    """A usable one, with the usual deadline."""
    return await open_outbox()


@pytest.fixture
def ctl(rabbit_server: RabbitServer) -> Ctl:
    """Runs rabbitmqctl while the event loop goes on."""

    async def run(*arguments: str) -> str:
        return await asyncio.to_thread(rabbit_server.ctl, *arguments)

    return run


async def nothing_left_running(before: set[asyncio.Task[Any]]) -> None:
    def left() -> list[asyncio.Task[Any]]:
        # The tasks in which anyio runs tests and fixtures come and go.
        return [task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task)]

    with contextlib.suppress(AssertionError):
        await eventually(lambda: not left())
    assert left() == []


async def refusal(outbox: RabbitOutbox) -> str:
    """Why the outbox refuses a message at this moment, which it must do without waiting for anything."""
    publishing = outbox.publish(envelope())
    with pytest.raises(BrokerRefused) as refused:
        publishing.send(None)
    return str(refused.value)


async def ping_complaint(outbox: RabbitOutbox, containing: str) -> str:
    """What ``ping`` complains of, once it is this."""
    complaint = ""

    async def complains() -> bool:
        nonlocal complaint
        try:
            await outbox.ping()
        except BrokerRefused as error:
            complaint = str(error)
        return containing in complaint

    try:
        await eventually(complains)
    except AssertionError:
        pytest.fail(f"expected {containing!r}, and the last complaint was {complaint!r}")
    return complaint


@dataclass
class Ledger:
    """What publishing said of each message, to be compared with what is on the queue."""

    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    async def publish(self, outbox: RabbitOutbox, tracking_id: str | None = None) -> None:
        """Publish one message, and note its outcome."""
        tracking_id = tracking_id or str(uuid.uuid4())
        try:
            await outbox.publish(envelope(tracking_id=tracking_id))
        except BrokerRefused:
            self.refused.add(tracking_id)
        except BrokerUnknown:
            self.unknown.add(tracking_id)
        else:
            self.accepted.add(tracking_id)

    @contextlib.asynccontextmanager
    async def load(self, outbox: RabbitOutbox, senders: int = 20) -> AsyncIterator[None]:
        """Publish all the while, with up to this many messages in flight."""
        ended = asyncio.Event()

        async def send() -> None:
            while not ended.is_set():
                await self.publish(outbox)
                await asyncio.sleep(0.02)

        sending = asyncio.gather(*(send() for _ in range(senders)))
        yield
        ended.set()
        await sending

    async def accepts_more(self, outbox: RabbitOutbox) -> None:
        """Wait until messages are accepted that were not published before this call."""
        before = len(self.accepted)

        async def more() -> bool:
            await self.publish(outbox)
            return len(self.accepted) > before

        await eventually(more, seconds=60)

    def agrees_with(self, stored: list[tuple[str, bytes]]) -> None:
        """Check every outcome against what was stored."""
        ids = {tracking_id for tracking_id, _ in stored}
        assert len(ids) == len(stored), "something was stored twice"
        assert not self.accepted - ids, "something accepted is lost"
        assert not self.refused & ids, "something refused is stored"
        assert not ids - self.accepted - self.unknown


# What is on the broker.


@both_queue_types
async def test_topology_is_what_the_contract_says(
    place: RabbitHarness, outbox: RabbitOutbox, ctl: Ctl
) -> None:
    name = place.topology.queue
    bus = RabbitHeartbeats(place.url, place.topology, "server-a")
    await bus.start()
    queues, exchanges = {}, {}

    async def declared() -> bool:
        nonlocal queues, exchanges
        keys = ("name", "type", "durable", "auto_delete")
        listed = json.loads(await ctl("list_queues", *keys, "arguments", "--formatter", "json"))
        queues = {queue["name"]: queue for queue in listed if queue["name"].startswith(name)}
        listed = json.loads(await ctl("list_exchanges", *keys, "--formatter", "json"))
        exchanges = {exchange["name"]: exchange for exchange in listed if exchange["name"].startswith(name)}
        return f"{name}.heartbeat" in queues

    await eventually(declared)
    await bus.close()
    kind = place.topology.queue_type
    assert {each: (queue["type"], queue["durable"]) for each, queue in queues.items()} == {
        name: (kind, True),
        f"{name}.dead": (kind, True),
        f"{name}.heartbeat": (kind, True),
    }
    assert {each: (exchange["type"], exchange["durable"]) for each, exchange in exchanges.items()} == {
        name: ("direct", True),
        f"{name}.dead": ("direct", True),
        f"{name}.heartbeat": ("fanout", True),
    }
    arguments = {argument[0]: argument[2] for argument in queues[name]["arguments"]}
    assert arguments == {
        "x-queue-type": kind,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": f"{name}.dead",
        "x-dead-letter-routing-key": f"{name}.dead",
    } | ({"x-dead-letter-strategy": "at-least-once"} if kind == "quorum" else {})
    arguments = {argument[0]: argument[2] for argument in queues[f"{name}.heartbeat"]["arguments"]}
    assert arguments == {"x-queue-type": kind, "x-max-length": 1000, "x-overflow": "drop-head"}


async def test_properties_are_what_the_contract_says(place: RabbitHarness, outbox: RabbitOutbox) -> None:
    published = envelope()
    await outbox.publish(published)
    [(properties, body)] = await consume(place.url, place.topology.queue)
    assert properties.message_id == published.tracking_id
    assert properties.message_type == "sms.outbound.v1"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.timestamp == published.created_at.replace(microsecond=0)
    assert properties.app_id == "server-a"
    assert properties.expiration == "3600000"
    assert body == published.to_json()


@both_queue_types
async def test_what_expires_and_what_is_rejected_goes_to_the_dead_queue(
    place: RabbitHarness, outbox: RabbitOutbox
) -> None:
    # The rejected one first, or it would keep the other from the queue's head, where alone messages expire.
    async with channel_of(place.url) as channel:
        await outbox.publish_body("rejected", b"2", 60_000, datetime.now(UTC))
        message = await channel.basic_get(place.topology.queue)
        assert message.delivery_tag is not None
        await channel.basic_reject(message.delivery_tag, requeue=False)
        await outbox.publish_body("expired", b"1", 50, datetime.now(UTC))
        dead: dict[str, tuple[str, bytes]] = {}

        async def both_dead() -> bool:
            for properties, body in await consume(place.url, place.topology.dead_queue):
                [death] = properties.headers["x-death"]
                dead[properties.message_id] = (death["reason"], body)
            return len(dead) == 2

        await eventually(both_dead)
    assert dead == {"expired": ("expired", b"1"), "rejected": ("rejected", b"2")}
    assert await place.stored() == []


async def test_heartbeats_wait_for_the_delivery_side(place: RabbitHarness) -> None:
    bus = RabbitHeartbeats(place.url, place.topology, "server-a")
    await bus.start()

    async def sent() -> bool:
        with contextlib.suppress(BrokerRefused):
            await bus.send(b'{"service":"server-a"}')
            return True
        return False

    await eventually(sent)
    await bus.close()
    [(properties, body)] = await consume(place.url, place.topology.heartbeat_queue)
    assert properties.message_type == "sms.heartbeat.v1"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.app_id == "server-a"
    assert body == b'{"service":"server-a"}'


# What the broker refuses.


async def test_a_full_queue_refuses_and_loses_nothing(
    place: RabbitHarness, outbox: RabbitOutbox, ctl: Ctl
) -> None:
    name = place.topology.queue
    await ctl("set_policy", name, f"^{name}$", '{"max-length": 3}', "--apply-to", "queues")
    ledger = Ledger()

    async def full() -> bool:
        await ledger.publish(outbox)
        return bool(ledger.refused)

    await eventually(full)
    stored = await place.stored()
    await ledger.accepts_more(outbox)
    assert not ledger.unknown
    ledger.agrees_with(stored + await place.stored())
    await ctl("clear_policy", name)


async def test_a_queue_that_stays_full_is_complained_of_while_messages_come(
    place: RabbitHarness, outbox: RabbitOutbox, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refusal is a moment's; after some seconds of them the broker is called full, until it confirms again."""
    name = place.topology.queue
    await ctl("set_policy", name, f"^{name}$", '{"max-length": 1}', "--apply-to", "queues")
    ledger = Ledger()
    complaint = ""

    async def full() -> bool:
        nonlocal complaint
        await ledger.publish(outbox)
        try:
            await outbox.ping()
        except BrokerRefused as error:
            complaint = str(error)
        return bool(complaint)

    await eventually(full)
    assert re.fullmatch(
        r"RabbitMQ has refused the last \d+ messages: see whether the queue is full or unbound .*", complaint
    )
    with monkeypatch.context() as later:
        later.setattr(publisher, "_RECENT_SECONDS", 0.0)
        await outbox.ping()
    stored = await place.stored()
    await ledger.accepts_more(outbox)
    await outbox.ping()
    ledger.agrees_with(stored + await place.stored())
    await ctl("clear_policy", name)


async def test_a_deleted_queue_refuses_until_it_is_declared_again(
    place: RabbitHarness, outbox: RabbitOutbox
) -> None:
    async with channel_of(place.url) as channel:
        await channel.queue_delete(place.topology.queue)
    ledger = Ledger()
    await ledger.publish(outbox)
    assert ledger.refused
    await ledger.accepts_more(outbox)
    assert not ledger.unknown
    ledger.agrees_with(await place.stored())


async def test_publishes_of_one_id_at_a_time_share_one_outcome(
    place: RabbitHarness, outbox: RabbitOutbox
) -> None:
    async with channel_of(place.url) as channel:
        await channel.queue_unbind(place.topology.queue, place.topology.exchange, place.topology.queue)
    one = envelope()
    # Each on its own, their returns would be taken for each other's: some would read as confirmed.
    outcomes = await asyncio.gather(*(outbox.publish(one) for _ in range(20)), return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, BrokerRefused)] == []
    assert await place.stored() == []


async def test_a_deleted_exchange_is_declared_again(place: RabbitHarness, open_outbox: OpenOutbox) -> None:
    outbox = await open_outbox()
    ledger = Ledger()
    async with ledger.load(outbox):
        await asyncio.sleep(0.2)
        async with channel_of(place.url) as channel:
            await channel.exchange_delete(place.topology.exchange)
        await ledger.accepts_more(outbox)
    ledger.agrees_with(await place.stored())


async def test_a_deleted_exchange_is_declared_again_though_nobody_sends(
    place: RabbitHarness, outbox: RabbitOutbox
) -> None:
    async with channel_of(place.url) as channel:
        await channel.exchange_delete(place.topology.exchange)

    async def back() -> bool:
        with contextlib.suppress(aiormq.AMQPError):
            async with channel_of(place.url) as channel:
                await channel.exchange_declare(place.topology.exchange, passive=True)
                return True
        return False

    await eventually(back)
    await usable(outbox)
    await outbox.publish(envelope())
    assert len(await place.stored()) == 1


async def test_a_queue_that_exists_otherwise_is_explained_until_it_is_gone(
    place: RabbitHarness, open_outbox: OpenOutbox
) -> None:
    name = place.topology.queue
    told: list[bool] = []
    async with channel_of(place.url) as channel:
        await channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})
        outbox = await open_outbox(wait=False, on_connection=told.append)
        complaint = await ping_complaint(outbox, f"queue '{name}' exists")
        assert "PRECONDITION_FAILED" in complaint
        assert re.search(r"inequivalent arg 'x-.*received .* but current is", complaint)
        assert "delete it" in complaint
        assert f"queue '{name}' exists" in await refusal(outbox)
        await channel.queue_delete(name)
    await usable(outbox)
    await outbox.publish(envelope())
    assert told == [True]


async def test_a_heartbeat_queue_that_exists_otherwise_does_not_touch_publishing(
    place: RabbitHarness, open_outbox: OpenOutbox
) -> None:
    async with channel_of(place.url) as channel:
        await channel.queue_declare(place.topology.heartbeat_queue, durable=True)
    bus = RabbitHeartbeats(place.url, place.topology, "server-a")
    await bus.start()
    outbox = await open_outbox()
    await outbox.publish(envelope())

    async def explained() -> bool:
        with pytest.raises(BrokerRefused) as refused:
            await bus.send(b"{}")
        return "PRECONDITION_FAILED" in str(refused.value)

    await eventually(explained)
    await bus.close()


# Blocked by an alarm.


@pytest.fixture
async def alarm(ctl: Ctl) -> AsyncIterator[Callable[[bool], Awaitable[str]]]:
    """Raises and clears the broker's memory alarm."""

    async def ring(on: bool) -> str:
        return await ctl("set_vm_memory_high_watermark", "0.00001" if on else "0.4")

    yield ring
    await ring(False)


async def test_a_blocked_broker_refuses_at_once_and_gets_nothing_later(
    place: RabbitHarness, open_outbox: OpenOutbox, alarm: Callable[[bool], Awaitable[str]]
) -> None:
    told: list[bool] = []
    outbox = await open_outbox(on_connection=told.append)
    await outbox.publish(envelope())
    await alarm(True)
    # Nobody sends: the probe finds it out.
    await ping_complaint(outbox, "blocked")
    for _ in range(50):
        assert "blocked" in await refusal(outbox)
    await eventually(lambda: told == [True, False])
    # Who starts now must not find it out by a sender's message either.
    late = await open_outbox(wait=False)
    await ping_complaint(late, "blocked")
    assert "blocked" in await refusal(late)
    await alarm(False)
    await usable(outbox)
    await usable(late)
    await outbox.publish(envelope())
    await late.publish(envelope())
    await eventually(lambda: told == [True, False, True])
    assert len(await place.stored()) == 3


async def test_an_alarm_under_load(
    place: RabbitHarness, open_outbox: OpenOutbox, alarm: Callable[[bool], Awaitable[str]]
) -> None:
    outbox = await open_outbox(confirm_seconds=SHORT)
    ledger = Ledger()
    async with ledger.load(outbox):
        await ledger.accepts_more(outbox)
        await alarm(True)
        await ping_complaint(outbox, "blocked")
        await asyncio.sleep(2 * SHORT)
        # The alarm explains the confirms that do not come: the connection is kept.
        assert "blocked" in await refusal(outbox)
        await alarm(False)
        await ledger.accepts_more(outbox)
    assert ledger.refused
    ledger.agrees_with(await place.stored())


# Lost, stopped, killed.


async def test_a_password_is_never_shown(
    place: RabbitHarness, open_outbox: OpenOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outbox = await open_outbox(url=place.url.replace(":guest@", ":s3cr3t@"), wait=False)
    complaint = await ping_complaint(outbox, "ACCESS_REFUSED")
    assert "s3cr3t" not in complaint + await refusal(outbox) + caplog.text


async def test_connections_closed_by_an_operator_are_made_again(
    place: RabbitHarness, open_outbox: OpenOutbox, ctl: Ctl
) -> None:
    told: list[bool] = []
    outbox = await open_outbox(on_connection=told.append)
    heard: list[bytes] = []
    bus = RabbitHeartbeats(place.url, place.topology, "server-a")
    bus.listen(heard.append)
    await bus.start()
    ledger = Ledger()
    async with ledger.load(outbox):
        await ledger.accepts_more(outbox)
        await ctl("close_all_connections", "an operator's reason")
        await eventually(lambda: told == [True, False, True])
        await ledger.accepts_more(outbox)
    ledger.agrees_with(await place.stored())

    async def heard_again() -> bool:
        with contextlib.suppress(BrokerRefused, BrokerUnknown):
            await bus.send(b'"again"')
        return b'"again"' in heard

    await eventually(heard_again)
    await bus.close()


async def test_a_broker_killed_under_load_loses_nothing_that_was_accepted(
    place: RabbitHarness, open_outbox: OpenOutbox, rabbit_server: RabbitServer
) -> None:
    outbox = await open_outbox(confirm_seconds=2.0)
    ledger = Ledger()
    async with ledger.load(outbox):
        await ledger.accepts_more(outbox)
        await asyncio.to_thread(rabbit_server.write_down_queues)
        await asyncio.to_thread(rabbit_server.kill)
        await ping_complaint(outbox, "not connected")
        assert "not connected" in await refusal(outbox)
        await asyncio.to_thread(rabbit_server.start)
        await ledger.accepts_more(outbox)
    assert ledger.refused
    ledger.agrees_with(await place.stored())


async def test_a_stopped_broker_is_unknown_at_the_deadline_and_refused_once_it_is_given_up(
    place: RabbitHarness, open_outbox: OpenOutbox, rabbit_server: RabbitServer
) -> None:
    outbox = await open_outbox(confirm_seconds=SHORT)
    ledger = Ledger()
    with rabbit_server.paused():
        await asyncio.gather(*(ledger.publish(outbox) for _ in range(5)))
        assert len(ledger.unknown) == 5
        await ping_complaint(outbox, "RabbitMQ did not confirm in time twice in a row")
        assert "not connected" in await refusal(outbox)
    await ledger.accepts_more(outbox)
    for tracking_id in list(ledger.unknown):
        await ledger.publish(outbox, tracking_id)
    assert ledger.unknown <= ledger.accepted
    stored = await place.stored()
    assert {tracking_id for tracking_id, _ in stored} == ledger.accepted


async def test_a_stopped_broker_is_given_up_at_the_second_timeout_though_the_first_has_a_channel_replaced(
    place: RabbitHarness, open_outbox: OpenOutbox, rabbit_server: RabbitServer
) -> None:
    outbox = await open_outbox(confirm_seconds=SHORT)
    ledger = Ledger()
    with rabbit_server.paused():
        began = time.monotonic()
        first = asyncio.create_task(ledger.publish(outbox))
        # Far enough apart that a fresh channel is being opened, in vain, when the second is given up.
        await asyncio.sleep(0.05)
        await asyncio.gather(first, ledger.publish(outbox))
        assert len(ledger.unknown) == 2
        assert "RabbitMQ did not confirm in time twice in a row" in await refusal(outbox)
        await ping_complaint(outbox, f"{HOST}:{rabbit_server.port}: RabbitMQ did not confirm in time twice")
        assert time.monotonic() - began < 5
    await ledger.accepts_more(outbox)


async def test_a_queue_that_answers_nothing_is_complained_of_and_the_connection_is_kept(
    place: RabbitHarness, open_outbox: OpenOutbox, ctl: Ctl
) -> None:
    # Longer than a probe's interval: that probes are confirmed meanwhile is what shows the connection to be alive.
    outbox = await open_outbox(confirm_seconds=3.0)
    connection = outbox._connection._session
    ledger = Ledger()
    # As when most of the nodes that hold the queue are gone.
    leader = f"'%2F_{place.topology.queue}'"
    await ctl("eval", f"sys:suspend({leader}).")
    await asyncio.gather(*(ledger.publish(outbox) for _ in range(5)))
    assert len(ledger.unknown) == 5
    await ping_complaint(outbox, "has not confirmed the last 5 messages")
    assert outbox._connection._session is connection
    await ctl("eval", f"sys:resume({leader}).")
    await ledger.accepts_more(outbox)
    await usable(outbox)
    ledger.agrees_with(await place.stored())


async def test_the_late_return_of_an_unknown_publish_is_no_answer_to_its_retry(
    place: RabbitHarness,
    open_outbox: OpenOutbox,
    rabbit_server: RabbitServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A test of logs in this process may have left it silent, as the gateway does.
    caplog.set_level(logging.WARNING, logger="aiormq")
    # Two probes that find the broker stopped would have the whole connection replaced.
    monkeypatch.setattr(probe, "_INTERVAL_SECONDS", 3600)
    outbox = await open_outbox(confirm_seconds=SHORT)
    one = envelope()
    async with channel_of(place.url) as channel:
        await channel.queue_unbind(place.topology.queue, place.topology.exchange, place.topology.queue)
    with rabbit_server.paused(), pytest.raises(BrokerUnknown):
        await outbox.publish(one)
    assert outbox._connection.obstacle() is None
    await outbox.publish(one)
    assert await place.stored() == [(one.tracking_id, one.to_json())]
    # And the return did come late.
    await eventually(lambda: "Unhandled message" in caplog.text)
