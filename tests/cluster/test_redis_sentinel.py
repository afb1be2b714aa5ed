"""A primary under three Sentinels dies or hangs under load: the gateway finds the next one by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.redis.store import RedisStore
from pipeline.ports import StoreUnavailable
from tests.cluster.load import Load, used
from tests.support.clusters import RedisWithSentinels, settled
from tests.support.gateways import Backend, Gateway
from tests.support.servers import RabbitServer, RedisServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture
def servers(redis_with_sentinels: RedisWithSentinels) -> Iterator[RedisWithSentinels]:
    """All of them, and all of them again after the test."""
    yield redis_with_sentinels
    redis_with_sentinels.restore()


@pytest.fixture
def backend(servers: RedisWithSentinels, rabbit_server: RabbitServer) -> Backend:
    """Redis under Sentinels, and an ordinary RabbitMQ."""
    return Backend("sentinel", servers.url, rabbit_server.url)


@pytest.mark.parametrize("fail", [RedisServer.kill, RedisServer.pause], ids=["killed", "hanging"])
def test_the_primary_fails_under_load(
    servers: RedisWithSentinels, backend: Backend, tmp_path: Path, fail: Callable[[RedisServer], None]
) -> None:
    """Answers say that it is away until the next primary serves, nothing is lost, and no key gives two messages."""
    with Gateway(tmp_path, backend.environ()) as gateway, Load(gateway) as load:
        load.wait_for(100)
        failed = servers.primary()
        fail(failed)
        gateway.wait("/readyz", 503)
        load.wait_for(100)
        gateway.wait("/readyz")
        if fail is RedisServer.kill:
            failed.start()
        else:
            # It goes on as if it were still the primary until the Sentinels have told it.
            failed.resume()
        load.wait_for(100)
        assert settled(servers.primary, "a primary") is not failed
    told = load.check(backend.rabbitmq_url, backend.queue)
    assert told["SERVICE_UNAVAILABLE"]
    # What the new primary had not yet received is not counted; nothing is ever counted twice.
    assert used(backend, "acme") <= told["messages"]


def test_two_of_three_sentinels_are_gone(servers: RedisWithSentinels) -> None:
    """One that answers is enough to find the primary."""
    for sentinel in servers.sentinels[:2]:
        sentinel.kill()

    async def ping() -> None:
        store = RedisStore(servers.url, call_seconds=30)
        await store.start()
        await store.ping()
        await store.close()

    asyncio.run(ping())


def test_nobody_knows_the_primary(servers: RedisWithSentinels) -> None:
    """The reason says so, in Sentinel's words."""

    async def ping(url: str) -> None:
        store = RedisStore(url, call_seconds=30)
        await store.start()
        try:
            with pytest.raises(
                StoreUnavailable, match=r"where the primary 'another-name' is: .*No such master"
            ):
                await store.ping()
        finally:
            await store.close()

    asyncio.run(ping(servers.url.replace(servers.name, "another-name")))
