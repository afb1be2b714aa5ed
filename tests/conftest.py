"""What all tests share: one real Redis and one real RabbitMQ for the whole run, started when the first test asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.servers import RabbitServer, RedisServer, ServerMissing

S = TypeVar("S", RedisServer, RabbitServer)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio. Of session scope, so that async fixtures may be of any."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running Redis. A test that stops, kills or pauses it leaves it running again."""
    with _installed(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """A running RabbitMQ. A test that stops, kills or pauses it leaves it running again."""
    with _installed(RabbitServer) as server:
        yield server


def _installed(kind: Callable[[], S]) -> S:
    """The server, not yet started. Where it is not installed the test is skipped, but never in CI."""
    try:
        return kind()
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
