"""The outbox: how messages leave, and whose outcome is whose. The broker is played here; a real one: tests/contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq import spec
from pamqp.header import ContentHeader

from gateway.rabbitmq import connection as connection_module
from gateway.rabbitmq import probe, publisher
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import Topology
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope
from tests.support.amqp_peer import Peer
from tests.support.waiting import eventually

HOST = "127.0.0.1"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOON = 20.0
TOPOLOGY = Topology("ex", "q", "classic", "hb-ex", "hb-q")
# The first channel declares, the second is the messages', the third the probe's.
MESSAGES = 2


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """It confirms whatever is published."""
    peer.confirms = True
    return peer


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for attempts, and no probe comes in between by itself."""
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(probe, "_INTERVAL_SECONDS", 3600)


@asynccontextmanager
async def opened(url: str, *, wait: bool = True, **options: Any) -> AsyncIterator[RabbitOutbox]:
    """One that has begun to connect, and is closed again."""
    outbox = RabbitOutbox(url, TOPOLOGY, "server-a", **options)
    await outbox.start()
    if wait:
        await eventually(lambda: outbox._connection.obstacle() is None)
    try:
        yield outbox
    finally:
        await outbox.close()


async def test_an_envelope_leaves_as_the_contract_says(peer: Peer) -> None:
    """Persistent, mandatory, by the queue's name, and with what the delivery side reads."""
    async with opened(peer.url) as outbox:
        number = channel_of(outbox)
        one = envelope()
        await outbox.publish(one)
    assert peer.messages(number) == [(one.tracking_id, one.to_json())]
    [publish] = [frame for n, frame in peer.received if n == number and isinstance(frame, spec.Basic.Publish)]
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("ex", "q", True)
    [header] = [frame for n, frame in peer.received if n == number and isinstance(frame, ContentHeader)]
    assert {name: value for name, value in header.properties if value} == {
        "content_type": "application/json",
        "delivery_mode": 2,
        "expiration": "3600000",
        "message_id": one.tracking_id,
        "timestamp": one.created_at.replace(microsecond=0),
        "message_type": "sms.outbound.v1",
        "app_id": "server-a",
    }


def channel_of(outbox: RabbitOutbox) -> int:
    """The number of the channel that messages leave on."""
    channel = outbox._publisher._channel
    assert channel is not None
    return channel._channel.number


async def test_everything_is_declared_before_anything_is_published(peer: Peer) -> None:
    """On a channel that is closed again; then the connection is usable, and who watches is told."""
    told: list[bool] = []
    async with opened(peer.url, on_connection=told.append):
        await eventually(lambda: told == [True])
        names = peer.names()
        assert names.index("Queue.Bind") < names.index("Confirm.Select") < names.index("Basic.Publish")
        assert names.count("Queue.Declare") == 2
        assert names.count("Channel.Close") == 1
    assert told == [True, False]


async def test_publishes_of_one_id_at_a_time_are_one(peer: Peer) -> None:
    """Its outcome is everybody's; afterwards the id may be published again."""
    async with opened(peer.url) as outbox:
        number = channel_of(outbox)
        peer.confirms = False
        publishing = [asyncio.create_task(outbox.publish_body("one", b"1", 1000, NOW)) for _ in range(5)]
        assert await peer.has(1, number) == ["one"]
        peer.say(spec.Basic.Ack(1), channel=number)
        await asyncio.gather(*publishing)
        peer.confirms = True
        await outbox.publish_body("one", b"1", 1000, NOW)
        assert [message_id for message_id, _ in peer.messages(number)] == ["one", "one"]
        assert outbox._in_flight == {}


async def test_a_failure_is_everybodys_too(peer: Peer) -> None:
    """Each gets an error of its own, of the same kind and in the same words."""
    async with opened(peer.url) as outbox:
        number = channel_of(outbox)
        peer.confirms = False
        publishing = [asyncio.create_task(outbox.publish_body("one", b"1", 1000, NOW)) for _ in range(3)]
        await peer.has(1, number)
        peer.say(spec.Basic.Nack(1), channel=number)
        errors = await asyncio.gather(*publishing, return_exceptions=True)
    assert [type(error).__mro__[1] for error in errors] == [BrokerRefused] * 3
    assert len({str(error) for error in errors}) == 1
    assert len({id(error) for error in errors}) == 3


async def test_who_is_cancelled_takes_nobody_elses_outcome_away(peer: Peer) -> None:
    """If it is the first, what became of the message is not known; if it is another, nothing has changed."""
    async with opened(peer.url) as outbox:
        number = channel_of(outbox)
        peer.confirms = False
        first, second, third = (
            asyncio.create_task(outbox.publish_body("one", b"1", 1000, NOW)) for _ in range(3)
        )
        await peer.has(1, number)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not third.done()
        first.cancel()
        with pytest.raises(BrokerUnknown, match="given up before the broker answered"):
            await third
        assert outbox._in_flight == {}


async def test_while_the_broker_is_away_nobody_waits() -> None:
    """Neither a message nor a question for its health; both are told why."""
    async with opened(f"amqp://guest:guest@{HOST}:1/", wait=False) as outbox:
        with pytest.raises(BrokerRefused, match="RabbitMQ is not connected: "):
            outbox.publish(envelope()).send(None)
        await eventually(lambda: f"{HOST}:1: " in outbox._connection.last_error)
        with pytest.raises(BrokerRefused, match=f"RabbitMQ is not connected: {HOST}:1: .*Connect"):
            await outbox.ping()


async def test_while_the_broker_has_blocked_the_connection_nobody_waits(peer: Peer) -> None:
    """For RabbitMQ would keep a message, and take it later."""
    async with opened(peer.url) as outbox:
        number = channel_of(outbox)
        peer.say(spec.Connection.Blocked(reason="low on disk"), channel=0)
        await eventually(lambda: outbox._connection.obstacle() is not None)
        with pytest.raises(BrokerRefused, match="low on memory or disk"):
            outbox.publish(envelope()).send(None)
        with pytest.raises(BrokerRefused, match="low on memory or disk"):
            await outbox.ping()
        peer.say(spec.Connection.Unblocked(), channel=0)
        await eventually(lambda: outbox._connection.obstacle() is None)
        await outbox.publish(envelope())
        assert len(peer.messages(number)) == 1


async def test_its_health_is_the_probes_and_the_messages(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe passes no queue, so that messages that fail are counted besides."""
    async with opened(peer.url) as outbox:
        await outbox.ping()
        monkeypatch.setattr(publisher, "_REFUSED_SECONDS", 0.0)
        monkeypatch.setattr(outbox._connection, "renew", lambda: None)
        peer.confirms = False
        number = channel_of(outbox)
        for n in (1, 2):
            sending = asyncio.create_task(outbox.publish_body(f"{n}", b"", 1000, NOW))
            await peer.has(n, number)
            peer.say(spec.Basic.Nack(n), channel=number)
            with pytest.raises(BrokerRefused):
                await sending
        peer.confirms = True
        with pytest.raises(BrokerRefused, match="has refused the last 2 messages"):
            await outbox.ping()


async def test_a_publish_in_flight_at_the_end_is_unknown(peer: Peer) -> None:
    """Nobody can say whether the broker has it."""
    async with opened(peer.url) as outbox:
        peer.confirms = False
        sending = asyncio.create_task(outbox.publish(envelope()))
        await peer.has(1, channel_of(outbox))
    with pytest.raises(BrokerUnknown, match="with the message in flight"):
        await sending


def test_a_url_that_is_none_is_not_repeated() -> None:
    """It may hold the password anywhere."""
    for url in (
        "amqp://user:s3cr3t",
        "http://user:s3cr3t@host/",
        "amqp://user:s3cr3t/x@host/",
        "amqp://[s3cr3t",
    ):
        with pytest.raises(ValueError, match=r"amqp://\[USER:PASSWORD@\]HOST") as error:
            RabbitOutbox(url, TOPOLOGY, "server-a")
        assert "s3cr3t" not in str(error.value)
