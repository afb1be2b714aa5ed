"""How connections are kept: apart, made again for ever with jitter, and what is in flight when they end."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable

import aiormq
import pytest

from gateway.dependency import Dependency
from gateway.rabbitmq import RabbitHeartbeats, RabbitOutbox, Topology
from gateway.redis.store import RedisStore
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import RabbitHarness, envelope, usable
from tests.support.servers import HOST, RabbitServer

ATTEMPTS = 5

ADAPTERS: dict[str, Callable[[int], Dependency]] = {
    "rabbitmq": lambda port: RabbitOutbox(f"amqp://guest:guest@{HOST}:{port}/", Topology(), "server-a"),
    "redis": lambda port: RedisStore(f"redis://{HOST}:{port}/0"),
}


@pytest.fixture
async def place(rabbit_server: RabbitServer) -> AsyncIterator[RabbitHarness]:
    """Exchanges and queues of the test's own."""
    place = RabbitHarness(rabbit_server.url, "quorum")
    yield place
    await place.remove()


async def pauses(adapter: Callable[[int], Dependency]) -> list[float]:
    """The seconds between attempts on a server that hangs up on each."""
    attempts: list[float] = []
    enough = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(time.monotonic())
        if len(attempts) > ATTEMPTS:
            enough.set()
        writer.close()

    async with await asyncio.start_server(hang_up, HOST, 0) as server:
        dependency = adapter(server.sockets[0].getsockname()[1])
        await dependency.start()
        await enough.wait()
        await dependency.close()
    return [later - sooner for sooner, later in itertools.pairwise(attempts)][:ATTEMPTS]


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_attempts_go_on_with_jitter(adapter: str) -> None:
    """Gateways that lost one server together do not come back together: no two wait for equal times."""
    found = await asyncio.gather(*(pauses(ADAPTERS[adapter]) for _ in range(3)))
    for together in zip(*found, strict=True):
        assert min(together) > 0.04  # From 0.1 s on, of which jitter takes at most half.
    first, *others = found
    assert all(
        max(abs(mine - theirs) for mine, theirs in zip(first, other, strict=True)) > 0.02 for other in others
    )


async def test_each_purpose_has_a_connection_of_its_own_with_a_short_heartbeat(
    place: RabbitHarness, rabbit_server: RabbitServer
) -> None:
    """Whatever becomes of the gateways' heartbeats, publishing goes on; and a dead peer is noticed within seconds."""
    service = f"service-{uuid.uuid4().hex[:8]}"
    outbox = RabbitOutbox(place.url, place.topology, service)
    bus = RabbitHeartbeats(place.url, place.topology, service)
    await outbox.start()
    await bus.start()
    await usable(outbox)
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(30):
        while len(found) < 2:
            keys = ("client_properties", "timeout")
            listed = await asyncio.to_thread(rabbit_server.ctl, "list_connections", *keys)
            found = sorted(re.findall(rf"{service} (\w+)\b.*\t(\d+)$", listed, re.MULTILINE))
    assert found == [("heartbeats", "5"), ("publishing", "5")]
    await outbox.close()
    await bus.close()


async def test_what_is_in_flight_when_the_broker_closes_the_channel_is_unknown(
    place: RabbitHarness, rabbit_server: RabbitServer
) -> None:
    """A publish to a missing exchange ends the channel for all: the queue may have what else is on its way to it."""
    outbox = place.outbox()
    await outbox.start()
    await usable(outbox)
    # With its first message the broker's end of the channel makes itself known to the queue, and waits for it.
    await outbox.publish(envelope())
    leader = f"'%2F_{place.topology.queue}'"
    await asyncio.to_thread(rabbit_server.ctl, "eval", f"sys:suspend({leader}).")
    one = envelope()
    publishing = asyncio.create_task(outbox.publish(one))
    await asyncio.sleep(0.2)
    connection = await aiormq.connect(place.url)
    channel = await connection.channel()
    await channel.exchange_delete(place.topology.exchange)
    with pytest.raises((BrokerRefused, BrokerUnknown)):
        await outbox.publish(envelope())
    with pytest.raises(BrokerUnknown):
        await publishing
    await connection.close()
    await asyncio.to_thread(rabbit_server.ctl, "eval", f"sys:resume({leader}).")
    await usable(outbox)
    await outbox.publish(one)
    assert one.tracking_id in {tracking_id for tracking_id, _ in await place.stored()}
    await outbox.close()
