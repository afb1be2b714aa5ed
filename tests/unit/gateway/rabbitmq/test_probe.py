"""A message that goes nowhere, and what its answer says of the broker. The broker is played here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiormq import spec
from pamqp.header import ContentHeader

from gateway.rabbitmq import connection as connection_module
from gateway.rabbitmq import probe as module
from gateway.rabbitmq.connection import BLOCKED, BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.probe import Probe
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerRefused
from tests.support.amqp_peer import Peer

KIND = Kind("x", "nowhere", "sms.probe", "a", persistent=False)
# Less than the 18 s after which aiormq drops a silent connection by itself.
SOON = 12.0


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """It confirms whatever is published."""
    peer.confirms = True
    return peer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(connection_module, "_BLOCKED_POLL_SECONDS", 0.01)


@asynccontextmanager
async def probing(
    peer: Peer, confirm_seconds: float = SOON, wait: bool = True
) -> AsyncIterator[tuple[Probe, BrokerConnection]]:
    async def set_up(session: Session) -> None:
        await probe.set_up(session)

    connection = BrokerConnection(peer.url, "a test", set_up)
    probe = Probe(connection, KIND, confirm_seconds)
    connection.start()
    if wait:
        await eventually(lambda: connection.obstacle() is None)
    try:
        yield probe, connection
    finally:
        await connection.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


def probes(peer: Peer) -> list[ContentHeader]:
    return [frame for _, frame in peer.received if isinstance(frame, ContentHeader)]


async def test_a_connection_is_usable_when_a_first_probe_is_confirmed(peer: Peer) -> None:
    """A broker that takes nothing is found out before a sender's message is there."""
    peer.confirms = False
    async with probing(peer, wait=False) as (_, connection):
        await peer.has(1)
        await asyncio.sleep(0.1)
        assert "not connected" in str(connection.obstacle())
        peer.say(spec.Basic.Ack(1))
        await eventually(lambda: connection.obstacle() is None)
    [probe] = probes(peer)
    # Should anything be bound there after all, it is not kept.
    assert (probe.properties.delivery_mode, probe.properties.expiration) == (1, "0")
    [publish] = [frame for _, frame in peer.received if isinstance(frame, spec.Basic.Publish)]
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("x", "nowhere", False)


async def test_a_connection_that_is_blocked_from_the_start_is_set_up(peer: Peer) -> None:
    """And known to be blocked: who publishes is refused at once."""
    peer.confirms = False
    async with probing(peer, wait=False) as (probe, connection):
        await peer.has(1)
        peer.say(spec.Connection.Blocked(reason="low on memory"), channel=0)
        await eventually(lambda: connection.obstacle() == BLOCKED)
        with pytest.raises(BrokerRefused, match="low on memory or disk"):
            await probe.ping()
        # The probe in flight is answered when the alarm is over.
        peer.say(spec.Connection.Unblocked(), channel=0)
        peer.say(spec.Basic.Ack(1))
        peer.confirms = True
        await eventually(lambda: connection.obstacle() is None)
        await probe.ping()


async def test_a_broker_that_does_not_confirm_the_first_is_left(peer: Peer) -> None:
    """The next attempt follows."""
    peer.confirms = False
    async with probing(peer, 0.05, wait=False) as (_, connection):
        await eventually(lambda: peer.connections > 1)
        assert "did not confirm" in connection.last_error
        peer.confirms = True
        await eventually(lambda: connection.obstacle() is None)


async def test_who_asks_at_one_time_shares_one_probe(peer: Peer) -> None:
    """And who stops waiting takes it from nobody."""
    async with probing(peer) as (probe, _):
        before = len(probes(peer))
        peer.confirms = False
        asking = [asyncio.create_task(probe.ping()) for _ in range(5)]
        await peer.has(before + 1)
        asking[0].cancel()
        await asyncio.sleep(0.1)
        peer.say(spec.Basic.Ack(before + 1))
        await asyncio.gather(*asking[1:])
        assert len(probes(peer)) == before + 1
        peer.confirms = True
        await probe.ping()
        assert len(probes(peer)) == before + 2


async def test_it_probes_by_itself(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody asks and nobody sends; not while there is no connection."""
    monkeypatch.setattr(module, "_INTERVAL_SECONDS", 0.02)
    async with probing(peer, wait=False) as (probe, connection):
        probe.start()
        await eventually(lambda: connection.obstacle() is None)
        await eventually(lambda: len(probes(peer)) > 5)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (spec.Basic.Nack(2), "refused the message"),
        (spec.Channel.Close(404, "NOT_FOUND - no exchange 'x'", 60, 40), "NOT_FOUND - no exchange 'x'"),
    ],
)
async def test_a_probe_that_fails_has_the_connection_set_up_again(
    peer: Peer, failure: object, reason: str
) -> None:
    """A deleted exchange is back before anybody sends."""
    async with probing(peer) as (probe, _):
        stale = probe._channel
        peer.confirms = False
        asking = asyncio.create_task(probe.ping())
        await peer.has(2)
        peer.confirms = True
        peer.say(failure)
        with pytest.raises(BrokerRefused, match=reason):
            await asking
        await eventually(lambda: probe._channel is not stale)
        await probe.ping()
        assert peer.connections == 1


async def test_two_probes_that_are_not_confirmed_cost_the_connection(peer: Peer) -> None:
    """The first alone does not."""
    async with probing(peer, 0.1) as (probe, connection):
        peer.confirms = False
        with pytest.raises(BrokerRefused, match=r"did not confirm the message within 0\.1 s"):
            await probe.ping()
        assert connection.obstacle() is None
        with pytest.raises(BrokerRefused, match="not confirm"):
            await probe.ping()
        peer.confirms = True
        await eventually(lambda: peer.connections == 2)
        await eventually(lambda: connection.obstacle() is None)


async def test_who_asks_while_the_gateway_closes_is_told_so(peer: Peer) -> None:
    """Rather than left to wait."""
    async with probing(peer) as (probe, connection):
        peer.confirms = False
        asking = asyncio.create_task(probe.ping())
        await peer.has(2)
        await connection.close()
        with pytest.raises(BrokerRefused, match=r"not connected|the gateway is closing"):
            await asking
