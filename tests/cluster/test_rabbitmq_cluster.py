"""The leader of the quorum queue dies under load, again and again: what was accepted is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.support.clusters import RabbitCluster, settled
from tests.support.gateways import Backend, Gateway
from tests.support.servers import RedisServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def nodes(rabbit_cluster: RabbitCluster) -> Iterator[RabbitCluster]:
    """All three of them, and all three again after the test."""
    yield rabbit_cluster
    rabbit_cluster.restore()


def test_the_leader_is_killed_under_load(
    nodes: RabbitCluster, redis_server: RedisServer, tmp_path: Path
) -> None:
    """First the leader that the gateway is connected to, then whoever has followed it: nothing accepted is lost."""
    backend = Backend("rabbitmq cluster", redis_server.url, nodes.url)
    with Gateway(tmp_path, backend.environ()) as gateway, Load(gateway) as load:
        for _ in range(2):
            load.wait_for(100)
            leader = nodes.leader_of(backend.queue)
            leader.write_down_queues()
            leader.kill()
            load.wait_for(100)
            assert settled(lambda: nodes.leader_of(backend.queue), "a leader") is not leader
            gateway.wait("/readyz")
            nodes.restore()
        load.wait_for(100)
    told = load.check(nodes.running()[0].url, backend.queue)
    assert told["SERVICE_UNAVAILABLE"] or told["OUTCOME_UNKNOWN"]
