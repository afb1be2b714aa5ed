"""What is declared on the broker, and how its refusals are explained. The broker is played here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiormq import spec
from aiormq.abc import AbstractChannel

from gateway.rabbitmq.session import Session
from gateway.rabbitmq.topology import Topology, TopologyRefused
from tests.support.amqp_peer import Peer

OURS = Topology("ex", "q", "quorum", "hb-ex", "hb-q")

Declare = Callable[[AbstractChannel], Awaitable[None]]


@pytest.fixture
async def channel(peer: Peer) -> AsyncIterator[AbstractChannel]:
    session = Session(peer.url)
    await session.connect()
    yield await session.channel(publisher_confirms=False)
    await session.close()


def declared(peer: Peer) -> list[tuple[Any, ...]]:
    """What was asked for, in order."""
    found: list[tuple[Any, ...]] = []
    for _, frame in peer.received:
        match frame:
            case spec.Exchange.Declare():
                found.append((frame.exchange, frame.exchange_type, frame.durable))
            case spec.Queue.Declare():
                assert not frame.auto_delete
                assert not frame.exclusive
                found.append((frame.queue, frame.arguments, frame.durable))
            case spec.Queue.Bind():
                found.append((frame.queue, frame.exchange, frame.routing_key))
    return found


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_what_a_message_passes(peer: Peer, channel: AbstractChannel, kind: str) -> None:
    """The dead-letter side stands before anything can expire, and a full queue refuses instead of forgetting."""
    await Topology("ex", "q", kind).declare_outbound(channel)
    arguments = {
        "x-queue-type": kind,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "q.dead",
        "x-dead-letter-routing-key": "q.dead",
    }
    if kind == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    assert declared(peer) == [
        ("q.dead", "direct", True),
        ("q.dead", {"x-queue-type": kind}, True),
        ("q.dead", "q.dead", "q.dead"),
        ("ex", "direct", True),
        ("q", arguments, True),
        ("q", "ex", "q"),
    ]


async def test_what_heartbeats_pass(peer: Peer, channel: AbstractChannel) -> None:
    """Bounded: old ones give way when nobody takes them."""
    await OURS.declare_heartbeats(channel)
    assert declared(peer) == [
        ("hb-ex", "fanout", True),
        ("hb-q", {"x-queue-type": "quorum", "x-max-length": 1000, "x-overflow": "drop-head"}, True),
        ("hb-q", "hb-ex", ""),
    ]


@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length'",
            "Configure the name or type that exists",
        ),
        (403, "ACCESS_REFUSED - access to queue refused", "Grant it the permissions"),
        (405, "RESOURCE_LOCKED - cannot obtain exclusive access", "does not declare"),
    ],
)
@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ("Exchange.Declare", "exchange 'hb-ex'"),
        ("Queue.Declare", "queue 'hb-q'"),
        ("Queue.Bind", "binding of queue 'hb-q' to exchange 'hb-ex'"),
    ],
)
async def test_a_refusal_says_what_why_and_what_to_do(
    peer: Peer, channel: AbstractChannel, frame: str, what: str, code: int, text: str, advice: str
) -> None:
    """In the broker's own words, and ours."""
    peer.replies[frame] = spec.Channel.Close(code, text, 0, 0)
    with pytest.raises(TopologyRefused) as refused:
        await OURS.declare_heartbeats(channel)
    for part in (what, text, advice):
        assert part in str(refused.value)


def test_names_and_types() -> None:
    """The dead-letter names follow from the queue's."""
    assert (OURS.dead_queue, OURS.dead_exchange) == ("q.dead", "q.dead")
    with pytest.raises(ValueError, match="queue_type must be one of: quorum, classic"):
        Topology(queue_type="stream")
