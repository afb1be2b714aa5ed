"""The channel that messages are published on, replaced whenever its state is in doubt. The broker is played here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiormq import spec
from pamqp.header import ContentHeader

from gateway.rabbitmq import connection as connection_module
from gateway.rabbitmq import publisher as module
from gateway.rabbitmq.channel import ClosedChannel, ConfirmChannel, Rejected, Unconfirmed, Unroutable
from gateway.rabbitmq.connection import BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.publisher import Publisher
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.support.amqp_peer import Peer
from tests.support.waiting import eventually

KIND = Kind("x", "r", "t", "a", mandatory=True)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Less than the 18 s after which aiormq drops a silent connection by itself.
SOON = 12.0


@asynccontextmanager
async def publishing(peer: Peer, confirm_seconds: float = SOON) -> AsyncIterator[Publisher]:
    """A publisher on a usable connection."""

    async def set_up(session: Session) -> None:
        await publisher.set_up(session)

    connection = BrokerConnection(peer.url, "a test", set_up)
    publisher = Publisher(connection, KIND, confirm_seconds)
    connection.start()
    await eventually(lambda: connection.obstacle() is None)
    try:
        yield publisher
    finally:
        await connection.close()


def sent_on(peer: Peer) -> list[int]:
    """The channels that messages came on, in order."""
    return [number for number, frame in peer.received if isinstance(frame, ContentHeader)]


def channel_of(publisher: Publisher) -> ConfirmChannel:
    assert publisher._channel is not None
    return publisher._channel


async def replaced(publisher: Publisher, stale: ConfirmChannel) -> ConfirmChannel:
    await eventually(lambda: publisher._channel is not stale)
    return channel_of(publisher)


async def test_a_message_that_is_confirmed(peer: Peer) -> None:
    """The channel stays; there is nothing to complain of."""
    async with publishing(peer) as publisher:
        peer.confirms = True
        channel = channel_of(publisher)
        for n in range(3):
            await publisher.publish(f"{n}", b"body", NOW, 1000)
        assert publisher.complaint() is None
        await asyncio.sleep(0.1)
        assert channel_of(publisher) is channel
        assert peer.messages() == [(f"{n}", b"body") for n in range(3)]


async def test_while_there_is_no_connection_nothing_is_waited_for(peer: Peer) -> None:
    """The reason is the connection's."""
    publisher = Publisher(BrokerConnection(peer.url, "a test", lambda _: asyncio.sleep(0)), KIND, SOON)
    with pytest.raises(BrokerRefused, match="not connected: no connection has been made yet"):
        publisher.publish("one", b"", NOW).send(None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda peer: peer.give_back("one"), Unroutable),
        (lambda peer: peer.say(spec.Basic.Nack(1)), Rejected),
        (lambda peer: peer.say(spec.Channel.Close(404, "NOT_FOUND", 60, 40)), BrokerUnknown),
        (lambda peer: None, Unconfirmed),
    ],
    ids=["returned", "nack", "channel closed", "no answer"],
)
async def test_after_a_failure_the_channel_is_another(
    peer: Peer, answer: Callable[[Peer], None], error: type[Exception]
) -> None:
    """And what is published next goes there."""
    async with publishing(peer, 0.3) as publisher:
        stale = channel_of(publisher)
        sending = asyncio.create_task(publisher.publish("one", b"", NOW))
        await peer.has(1)
        answer(peer)
        if error is Unroutable:
            peer.say(spec.Basic.Ack(1))
        with pytest.raises(error):
            await sending
        fresh = await replaced(publisher, stale)
        await eventually(lambda: stale._channel.is_closed)
        peer.confirms = True
        await publisher.publish("two", b"", NOW)
        # A number that the broker has closed is free for the next channel.
        assert peer.messages(fresh._channel.number)[-1] == ("two", b"")
        assert peer.connections == 1


async def test_a_queue_that_is_full_has_the_channel_replaced_once_a_second(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for every message that it refuses."""
    monkeypatch.setattr(module, "_REJECTED_SECONDS", 3600)
    async with publishing(peer) as publisher:
        publisher._rejected_at = -3600.0
        channel = channel_of(publisher)
        for n in range(5):
            number = channel._channel.number
            sending = asyncio.create_task(publisher.publish(f"{n}", b"", NOW))
            await asyncio.sleep(0)
            tag = channel._channel.delivery_tag
            await peer.has(tag, number)
            peer.say(spec.Basic.Nack(tag), channel=number)
            with pytest.raises(Rejected):
                await sending
            if n == 0:
                channel = await replaced(publisher, channel)
        await asyncio.sleep(0.1)
        assert channel_of(publisher) is channel


async def test_an_id_whose_outcome_is_unknown_goes_on_a_fresh_channel(peer: Peer) -> None:
    """A late return of the first attempt is no answer to the second."""
    async with publishing(peer, 0.3) as publisher:
        first = channel_of(publisher)
        with pytest.raises(Unconfirmed):
            await publisher.publish("one", b"", NOW)
        assert first.doubtful == {"one"}
        second = asyncio.create_task(publisher.publish("one", b"", NOW))
        await eventually(lambda: len(sent_on(peer)) == 2)
        _, number = sent_on(peer)
        assert number != 1
        peer.give_back("one", channel=1)
        peer.say(spec.Basic.Ack(1), channel=number)
        await second


async def test_where_no_fresh_channel_is_opened_such_an_id_is_refused(peer: Peer) -> None:
    """After the time that a confirm may take, and with what to do."""
    async with publishing(peer, 0.2) as publisher:
        peer.replies["Channel.Open"] = None
        with pytest.raises(Unconfirmed):
            await publisher.publish("one", b"", NOW)
        with pytest.raises(BrokerRefused, match=r"opened no new channel within 0\.2 s") as refused:
            await publisher.publish("one", b"", NOW)
        assert str(refused.value).endswith("retry")


async def test_a_publish_that_is_cancelled_leaves_a_doubt(peer: Peer) -> None:
    """So its id is not published on that channel again."""
    async with publishing(peer) as publisher:
        stale = channel_of(publisher)
        sending = asyncio.create_task(publisher.publish("one", b"", NOW))
        await peer.has(1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert stale.doubtful == {"one"}
        await replaced(publisher, stale)


async def test_two_confirms_that_do_not_come_cost_the_connection(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again, and published on."""
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.01, 0.05))
    async with publishing(peer, 0.1) as publisher:
        for n in range(2):
            with pytest.raises(Unconfirmed):
                await publisher.publish(f"{n}", b"", NOW)
        peer.confirms = True
        await eventually(lambda: peer.connections == 2)
        await eventually(lambda: publisher._connection.obstacle() is None)
        await publisher.publish("three", b"", NOW)


async def test_messages_that_are_not_confirmed_are_complained_of(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there are several, and none was confirmed since; not for ever."""
    async with publishing(peer, 0.1) as publisher:
        # Probes keep the connection.
        monkeypatch.setattr(publisher._connection, "unconfirmed", lambda seconds: None)
        for n in range(2):
            assert publisher.complaint() is None
            with pytest.raises(Unconfirmed):
                await publisher.publish(f"{n}", b"", NOW)
        assert "has not confirmed the last 2 messages: see whether the queue has a leader" in str(
            publisher.complaint()
        )
        with monkeypatch.context() as later:
            later.setattr(module, "_RECENT_SECONDS", 0.0)
            assert publisher.complaint() is None
        peer.confirms = True
        await publisher.publish("three", b"", NOW)
        assert publisher.complaint() is None


async def test_messages_that_are_refused_are_complained_of_after_a_while(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue may be full for a moment."""
    async with publishing(peer) as publisher:
        for _ in range(2):
            channel = channel_of(publisher)
            number = channel._channel.number
            sending = asyncio.create_task(publisher.publish("one", b"", NOW))
            await peer.has(1, number)
            peer.give_back("one", channel=number)
            peer.say(spec.Basic.Ack(1), channel=number)
            with pytest.raises(Unroutable, match=r"no queue is bound for it \(NO_ROUTE\)"):
                await sending
            await replaced(publisher, channel)
        assert publisher.complaint() is None
        monkeypatch.setattr(module, "_REFUSED_SECONDS", 0.0)
        assert "has refused the last 2 messages: see whether the queue is full" in str(publisher.complaint())


async def test_a_closed_channel_is_not_written_to(peer: Peer) -> None:
    """The message is certainly not stored."""
    async with publishing(peer) as publisher:
        stale = channel_of(publisher)
        await stale.retire()
        with pytest.raises(ClosedChannel, match="another is being opened"):
            await publisher.publish("one", b"", NOW)
        await replaced(publisher, stale)
        assert peer.messages() == []
