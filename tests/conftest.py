"""What all tests share: one real Redis and one real RabbitMQ for the whole run, started when the first test asks."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator

import pytest

from tests.support import quiet
from tests.support.clusters import RabbitCluster, RedisCluster, RedisWithSentinels
from tests.support.servers import RabbitServer, RedisServer, installed

# A run in the background (`make test &`) is started with Ctrl-C ignored, and so would be every process that the tests
# start, and which some of them interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SERVERS = {"redis_server", "rabbit_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a server needs one. Where a parameter decides it, the parameter is marked."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around everything, fixtures included, and outside of the test's own time."""
    with quiet.alone() if item.get_closest_marker("quiet") else quiet.among_others():
        return (yield)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio. Of session scope, so that async fixtures may be of any."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running Redis. A test that stops, kills or pauses it leaves it running again."""
    with installed(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """A running RabbitMQ. A test that stops, kills or pauses it leaves it running again."""
    with installed(RabbitServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_with_sentinels() -> Iterator[RedisWithSentinels]:
    """A primary, a replica and three Sentinels. A test that breaks them restores them."""
    with installed(RedisWithSentinels) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of six nodes. A test that breaks it restores it."""
    with installed(RedisCluster) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def rabbit_cluster() -> Iterator[RabbitCluster]:
    """A RabbitMQ cluster of three nodes. A test that breaks it restores it."""
    with installed(RabbitCluster) as cluster:
        yield cluster
