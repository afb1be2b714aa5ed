"""Sentinels and a Cluster that speak TLS: one URL's settings hold for every server that it leads to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.redis.store import RedisStore
from pipeline.facts import Client
from pipeline.ports import Begun, StoreUnavailable
from tests.contract.stores import claim_on
from tests.support.certificates import Authority, Pair
from tests.support.clusters import settled
from tests.support.servers import HOST, accepts, free_port, installed
from tests.support.tls import TlsRedis, trusting
from tests.support.waiting import once_served

pytestmark = [pytest.mark.cluster, pytest.mark.servers]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of all servers and of the gateway."""
    return Authority(tmp_path)


@pytest.fixture
def own(authority: Authority) -> Pair:
    """What every server shows."""
    return authority.issue("server")


@pytest.fixture
def client(authority: Authority) -> Pair:
    """The gateway's own certificate, which every server wants."""
    return authority.issue("gateway", "gateway.test")


class TlsSentinel(TlsRedis):
    """Watches over one primary, and speaks nothing but TLS with it."""

    def __init__(self, primary: TlsRedis, own: Pair, clients: Path) -> None:
        super().__init__(own, clients)
        self._config = self.directory / "sentinel.conf"
        lines = {
            "bind": HOST,
            "port": "0",
            "tls-port": str(self.port),
            "tls-replication": "yes",
            "tls-auth-clients": "yes",
            **self.files,
            "dir": str(self.directory),
            "sentinel monitor": f"x {HOST} {primary.port} 1",
        }
        self._config.write_text(
            "".join(f"{name} {value}\n" for name, value in lines.items()), encoding="utf-8"
        )

    def _answers(self) -> bool:
        return accepts(self.port)

    def _launch(self) -> None:
        self._spawn("server", [self._binary, self._config, "--sentinel"])


@asynccontextmanager
async def opened(url: str) -> Any:
    """A store that is closed again."""
    store = RedisStore(url, call_seconds=30)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def test_sentinels(authority: Authority, own: Pair, client: Pair) -> None:
    """They are asked over TLS with the gateway's certificate, and so is the primary; without it it is said why not."""
    with ExitStack() as stack:
        primary = stack.enter_context(installed(lambda: TlsRedis(own, authority.file)))
        sentinel = stack.enter_context(TlsSentinel(primary, own, authority.file))
        url = f"rediss+sentinel://localhost:{sentinel.port}/x"
        async with opened(trusting(url, authority, client)) as store:
            await once_served(store.ping, StoreUnavailable)
            assert await store.begin(claim_on(Client("tls"))) == Begun()
        async with opened(trusting(url, authority)) as store:
            with pytest.raises(StoreUnavailable, match="wants a client certificate"):
                await store.ping()


@pytest.fixture
def nodes(authority: Authority, own: Pair) -> Iterator[list[TlsRedis]]:
    """Three primaries that speak TLS with one another too."""
    with ExitStack() as stack:
        found = []
        buses = [free_port() for _ in range(3)]
        for bus in buses:
            node = installed(
                lambda bus=bus: TlsRedis(  # type: ignore[misc]  # a default is the usual way to bind
                    own, authority.file, cluster_enabled="yes", tls_cluster="yes", cluster_port=str(bus)
                )
            )
            found.append(stack.enter_context(node))
        tools = [
            stack.enter_context(redis.Redis(port=node.plain_port, decode_responses=True)) for node in found
        ]
        for n, tool in enumerate(tools):
            tool.execute_command("CLUSTER", "ADDSLOTSRANGE", 16384 * n // 3, 16384 * (n + 1) // 3 - 1)
            tool.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for tool in tools[1:]:
            tool.execute_command("CLUSTER", "MEET", HOST, found[0].port, buses[0])
        for tool in tools:
            info = tool.execute_command
            settled(
                lambda info=info: (
                    "cluster_slots_ok:16384" in str(info("CLUSTER", "INFO"))  # type: ignore[misc]
                    and "cluster_known_nodes:3" in str(info("CLUSTER", "INFO"))
                    and "cluster_state:ok" in str(info("CLUSTER", "INFO"))
                ),
                "three nodes that serve all slots",
            )
        yield found


async def test_a_cluster(nodes: list[TlsRedis], authority: Authority, client: Pair) -> None:
    """Every node is spoken to as the URL says, though it names one of them."""
    url = f"rediss+cluster://localhost:{nodes[0].port}"
    async with opened(trusting(url, authority, client)) as store:
        await once_served(store.ping, StoreUnavailable)
        for n in range(10):
            assert await store.begin(claim_on(Client(f"tls-{n}"))) == Begun()
    async with opened(trusting(url, authority)) as store:
        with pytest.raises(StoreUnavailable, match="client certificate"):
            await store.ping()
