"""Nodes of a Redis Cluster die, hang and pass their slots on: the gateway follows by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.redis.store import RedisStore
from pipeline.answer import Answer
from pipeline.facts import Client, Reservation
from pipeline.ports import Begun, InProgress, Replay, StoreUnavailable
from tests.cluster.load import Load, used
from tests.contract.stores import TODAY, claim_on
from tests.support.clusters import RedisCluster, plain, settled
from tests.support.gateways import Backend, Gateway, key_of
from tests.support.servers import HOST, RabbitServer, RedisServer
from tests.support.waiting import once_served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

SOON = 60.0


@pytest.fixture
def nodes(redis_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """All six of them, and all six again after the test."""
    yield redis_cluster
    redis_cluster.restore()


@asynccontextmanager
async def opened(url: str, call_seconds: float = SOON) -> AsyncIterator[RedisStore]:
    """A store that is closed again; no slow machine makes it fail."""
    store = RedisStore(url, call_seconds=call_seconds)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("fail", [RedisServer.kill, RedisServer.pause], ids=["killed", "hanging"])
def test_a_primary_fails_under_load(
    nodes: RedisCluster, rabbit_server: RabbitServer, tmp_path: Path, fail: Callable[[RedisServer], None]
) -> None:
    """Its clients are told so until its replica serves, the others' are served on, and nothing is lost or doubled."""
    backend = Backend("redis cluster", nodes.url, rabbit_server.url)
    failed = nodes.primary_of("{here}")
    elsewhere = next(f"there-{n}" for n in range(100) if nodes.primary_of(f"{{there-{n}}}") is not failed)
    clients = {key_of(name): {"name": name} for name in ("here", elsewhere)}
    environ = {**backend.environ(), "CLIENT_CONFIG": json.dumps(clients)}
    with Gateway(tmp_path, environ) as gateway, Load(gateway, ("here", elsewhere)) as load:
        for client in ("here", elsewhere):
            load.wait_for(50, client)
        others = load.accepted(elsewhere)
        fail(failed)
        gateway.wait("/readyz", 503)
        load.wait_for(50, "here")
        assert load.accepted(elsewhere) > others
        gateway.wait("/readyz")
        nodes.restore()
        for client in ("here", elsewhere):
            load.wait_for(50, client)
    told = load.check(backend.rabbitmq_url, backend.queue)
    assert told["SERVICE_UNAVAILABLE"]
    assert used(backend, elsewhere) == sum(message.client == elsewhere for message in load.messages)
    # What the replica had not yet received is not counted; nothing is ever counted twice.
    assert used(backend, "here") <= sum(message.client == "here" for message in load.messages)


async def test_a_step_follows_its_slot(nodes: RedisCluster) -> None:
    """What a node has not carried out, since another one serves the slot now, is sent to that one: nobody notices."""
    client = Client("traveller")
    async with opened(nodes.url) as store:
        for n in range(3):
            claim = claim_on(client, f"{nodes.nodes[0].port}-{n}")
            assert await store.begin(claim) == Begun()
            with nodes.moving("{traveller}"):
                pass
            assert isinstance(await store.take(client, TODAY, claim.token, claim), Reservation)
            await store.ping()


async def test_a_slot_on_its_way(nodes: RedisCluster) -> None:
    """A step that is refused meanwhile says why, and is carried out when the slot has arrived."""
    client = Client("commuter")
    present, absent = (claim_on(client, f"{nodes.nodes[0].port}-{name}") for name in ("present", "absent"))
    async with opened(nodes.url) as store:
        await store.begin(present)
        with nodes.moving("{commuter}"):
            assert isinstance(await store.begin(claim_on(client, present.key)), InProgress)
            with pytest.raises(StoreUnavailable, match="being moved to another node") as refused:
                await store.begin(absent)
            assert not refused.value.may_be_done
            with pytest.raises(StoreUnavailable, match="rehashing") as refused:
                await store.take(client, TODAY, present.token, present)
            assert not refused.value.may_be_done
        assert await store.begin(absent) == Begun()
        assert isinstance(await store.take(client, TODAY, present.token, present), Reservation)


async def test_a_planned_fail_over(nodes: RedisCluster) -> None:
    """When an operator has a replica take over, the answers of its primary are not lost, and are found there."""
    client = Client("planned")
    refusal = Answer(422, b"{}")
    async with opened(nodes.url) as store:
        claim = claim_on(client, f"{nodes.nodes[0].port}")
        await store.begin(claim)
        await store.complete(claim, refusal)
        primary = nodes.primary_of("{planned}")
        replica = nodes.replica_of(primary)

        def take_over() -> None:
            with plain(replica) as direct:
                direct.execute_command("CLUSTER", "FAILOVER")
            settled(lambda: nodes.primary_of("{planned}") is replica, "the replica to take over")

        await asyncio.to_thread(take_over)
        assert await began(store, client, claim.key) == Replay(refusal)


async def began(store: RedisStore, client: Client, key: str) -> object:
    """What ``begin`` gives as soon as it is carried out."""
    return await once_served(lambda: store.begin(claim_on(client, key)), StoreUnavailable)


async def test_a_slot_that_nobody_serves(nodes: RedisCluster) -> None:
    """Readiness says how many there are, and a step says that its own is one of them; both end with the gap."""
    slot = 0
    owner = nodes.primary_of("{nobody}")
    with plain(owner) as direct:
        slot = direct.execute_command("CLUSTER", "KEYSLOT", "{nobody}")

    def tell(*command: str, servers: list[RedisServer]) -> None:
        for server in servers:
            with plain(server) as direct:
                direct.execute_command("CLUSTER", *command, slot)

    async def complaint(store: RedisStore, words: str) -> None:
        async with asyncio.timeout(SOON):
            while True:
                try:
                    await store.ping()
                except StoreUnavailable as error:
                    if words in str(error):
                        return
                await asyncio.sleep(0.05)

    async with opened(nodes.url) as store:
        await store.ping()
        tell("DELSLOTS", servers=[*nodes.nodes])
        try:
            await complaint(store, "no node serves 1 of the hash slots")
            with pytest.raises(StoreUnavailable, match="no node serves the client's hash slot"):
                await store.begin(claim_on(Client("nobody")))
        finally:
            tell("ADDSLOTS", servers=[owner])
        assert await began(store, Client("nobody"), f"{nodes.nodes[0].port}") == Begun()


async def test_a_server_that_is_no_cluster(redis_server: RedisServer) -> None:
    """The reason says so, in its own words."""
    async with opened(f"redis+cluster://{HOST}:{redis_server.port}") as store:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cluster support disabled"):
                await store.ping()


async def test_any_node_leads_to_the_others(nodes: RedisCluster) -> None:
    """Even a replica, beside one that is not there."""
    replica = nodes.replica_of(nodes.primary_of("{anybody}"))
    login = nodes.url.removeprefix("redis+cluster://").partition("@")[0]
    async with opened(f"redis+cluster://{login}@{HOST}:1,{HOST}:{replica.port}") as store:
        await began(store, Client("anybody"), f"{replica.port}")
        assert isinstance(await store.begin(claim_on(Client("anybody"), f"{replica.port}")), InProgress)


async def test_nothing_is_left_open(nodes: RedisCluster) -> None:
    """Closing ends every link; calls fail at once from then on, and before the start."""
    store = RedisStore(nodes.url)
    with pytest.raises(StoreUnavailable, match="not started"):
        await store.ping()
    before = asyncio.all_tasks()
    async with opened(nodes.url) as store:
        await store.ping()
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before
    for call in (store.ping(), store.begin(claim_on(Client("late")))):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    await store.close()
