"""Heartbeats on a connection of their own, those of others included. The broker is played here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiormq import spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from gateway.rabbitmq import connection as connection_module
from gateway.rabbitmq.heartbeats import RabbitHeartbeats
from gateway.rabbitmq.topology import Topology
from pipeline.ports import BrokerRefused
from tests.support.amqp_peer import Peer

SOON = 20.0
TOPOLOGY = Topology("ex", "q", "classic", "hb-ex", "hb-q")


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """It confirms whatever is published."""
    peer.confirms = True
    return peer


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.01, 0.05))


@asynccontextmanager
async def opened(
    peer: Peer, receive: Callable[[bytes], None] | None = None, **options: Any
) -> AsyncIterator[RabbitHeartbeats]:
    """A bus that is connected, and closed again."""
    bus = RabbitHeartbeats(peer.url, TOPOLOGY, "server-a", **options)
    if receive is not None:
        bus.listen(receive)
    await bus.start()
    await eventually(lambda: bus._connection.obstacle() is None)
    try:
        yield bus
    finally:
        await bus.close()


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


def consumers(peer: Peer) -> list[tuple[int, str]]:
    """The channel and the tag of each consumer, in order."""
    return [(n, frame.consumer_tag) for n, frame in peer.received if isinstance(frame, spec.Basic.Consume)]


def deliver(peer: Peer, body: bytes) -> None:
    """As the broker passes on what anybody has sent."""
    number, tag = consumers(peer)[-1]
    peer.say(
        spec.Basic.Deliver(consumer_tag=tag, delivery_tag=1, exchange="hb-ex", routing_key=""),
        ContentHeader(properties=spec.Basic.Properties(), body_size=len(body)),
        ContentBody(body),
        channel=number,
    )


async def test_one_that_is_sent(peer: Peer) -> None:
    """Persistent, to all that are bound, with an id of its own."""
    async with opened(peer) as bus:
        await bus.send(b"{}")
        await bus.send(b"{}")
    (number, first), (_, second) = [
        (n, frame) for n, frame in peer.received if isinstance(frame, ContentHeader)
    ]
    assert first.properties.message_id != second.properties.message_id
    assert first.properties.message_type == "sms.heartbeat.v1"
    assert (first.properties.delivery_mode, first.properties.app_id) == (2, "server-a")
    publish = next(frame for _, frame in peer.received if isinstance(frame, spec.Basic.Publish))
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("hb-ex", "", False)
    assert [body for _, body in peer.messages(number)] == [b"{}"] * 2
    assert consumers(peer) == []


async def test_a_heartbeat_that_is_not_taken(peer: Peer) -> None:
    """The reason is the connection's, or the broker's."""
    bus = RabbitHeartbeats(peer.url, TOPOLOGY, "server-a")
    with pytest.raises(BrokerRefused, match="not connected"):
        await bus.send(b"{}")
    peer.confirms = False
    async with opened(peer) as bus:
        sending = asyncio.create_task(bus.send(b"{}"))
        await peer.got("ContentBody")
        peer.say(spec.Basic.Nack(1), channel=next(n for n, f in peer.received if isinstance(f, ContentBody)))
        with pytest.raises(BrokerRefused, match="refused the message"):
            await sending


async def test_what_arrives_is_passed_on(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Through a queue that goes with the connection; what cannot be handled stops nothing."""
    heard: list[bytes] = []

    def receive(body: bytes) -> None:
        if body == b"bad":
            raise ValueError(body)
        heard.append(body)

    async with opened(peer, receive):
        [queue] = [
            frame for _, frame in peer.received if isinstance(frame, spec.Queue.Declare) and frame.exclusive
        ]
        assert queue.auto_delete
        [consume] = [frame for _, frame in peer.received if isinstance(frame, spec.Basic.Consume)]
        assert consume.no_ack
        for body in (b"one", b"bad", b"two"):
            deliver(peer, body)
        await eventually(lambda: heard == [b"one", b"two"])
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.getMessage() == "a heartbeat could not be handled"


@pytest.mark.parametrize("how", ["queue deleted", "channel closed", "connection lost"])
async def test_it_listens_again(peer: Peer, how: str) -> None:
    """Whatever has ended it."""
    heard: list[bytes] = []
    async with opened(peer, heard.append) as bus:
        [(number, tag)] = consumers(peer)
        match how:
            case "queue deleted":
                peer.say(spec.Basic.Cancel(consumer_tag=tag), channel=number)
            case "channel closed":
                peer.say(spec.Channel.Close(404, "NOT_FOUND", 0, 0), channel=number)
            case _:
                peer.cut()
        await eventually(lambda: len(consumers(peer)) == 2)
        await eventually(lambda: bus._connection.obstacle() is None)
        deliver(peer, b"again")
        await eventually(lambda: heard == [b"again"])
        assert peer.connections == (2 if how == "connection lost" else 1)


async def test_what_heartbeats_pass_is_declared_and_nothing_else(peer: Peer) -> None:
    """A queue for the delivery side; those of messages are not its concern."""
    async with opened(peer):
        queues = [frame.queue for _, frame in peer.received if isinstance(frame, spec.Queue.Declare)]
        assert queues == ["hb-q"]
