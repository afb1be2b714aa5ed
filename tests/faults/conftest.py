"""The servers that tests of faults may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.servers import Servers
from tests.support.servers import RabbitServer, RedisServer


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A Redis and a RabbitMQ of a module's own, each behind a proxy."""
    with RedisServer() as store, RabbitServer() as broker, Servers(store, broker) as servers:
        yield servers
