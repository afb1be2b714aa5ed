"""Real clusters for tests, made of servers of our own: Redis with Sentinels, a Redis Cluster, a RabbitMQ cluster.

Each server of a cluster is a ``Server`` of its own, to be killed, paused and started again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import redis

from tests.support.servers import HOST, RabbitServer, RedisServer, Server, exchange, free_port
from tests.support.waiting import until

# How long a node may be silent before the others call it dead. Short, for the tests' sake, and still longer than the
# pauses of a busy machine.
DEAD_AFTER_MS = 2000
QUORUM = 2

# Of every Redis here, and of every Sentinel: characters that a URL has to encode, and no two alike.
PASSWORD, SENTINEL_PASSWORD = "s3cr3t:/@?#%+", "s3cr3t-of-the-sentinels"

SETTLED_WITHIN_SECONDS = 90.0

T = TypeVar("T")


def settled(found: Callable[[], T | None], what: str) -> T:
    """What ``found`` gives as soon as that is true; errors of servers that are not ready count as "not yet"."""
    return until(
        found,
        what,
        SETTLED_WITHIN_SECONDS,
        every_seconds=0.1,
        passing_over=(OSError, RuntimeError, redis.RedisError),
    )


@contextlib.contextmanager
def plain(server: Server) -> Iterator[Any]:
    """An ordinary client of one server; its replies are not of one type, so they are checked where they are used."""
    password = SENTINEL_PASSWORD if isinstance(server, Sentinel) else PASSWORD
    with redis.Redis(
        host=HOST, port=server.port, password=password, decode_responses=True, socket_timeout=5
    ) as client:
        yield client


def is_primary(server: Server) -> bool:
    """Whether a Redis server takes itself for a primary."""
    with plain(server) as client:
        return bool(client.info("replication")["role"] == "master")


class Cluster(ABC):
    """Some servers that belong together; ``url`` is what a gateway is given."""

    servers: Sequence[Server]

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def _form(self) -> None:
        """Start the servers, and make a cluster of them."""

    @abstractmethod
    def wait_until_whole(self) -> None:
        """Return when every server runs and has taken its part."""

    def restore(self) -> None:
        """Start whatever does not run, and wait until the cluster is as good as new."""
        for server in self.servers:
            if server.is_running():
                server.resume()
        started([server for server in self.servers if not server.is_running()])
        self.wait_until_whole()

    def close(self) -> None:
        """End all servers for good."""
        for server in self.servers:
            # A node that ends in order would wait for others, which end as well.
            server.kill()
            server.close()

    def __enter__(self) -> Self:
        try:
            self._form()
            self.wait_until_whole()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def started(servers: Sequence[Server]) -> None:
    """Start them at the same time."""
    with ThreadPoolExecutor(len(servers) or 1) as pool:
        list(pool.map(lambda server: server.start(), servers))


class RedisNode(RedisServer):
    """A Redis that wants a password, and may have a primary or replicas."""

    def __init__(self, **options: str) -> None:
        super().__init__(
            # Replicas get their first copy at once and over the network, and answer soon whatever the load.
            repl_diskless_sync_delay="0",
            requirepass=PASSWORD,
            masterauth=PASSWORD,
            **options,
        )

    def _answers(self) -> bool:
        return wants_password(self)


def wants_password(server: RedisServer) -> bool:
    """Whether it serves those who give it a password."""
    return exchange(server.port, b"PING\r\n").startswith(b"-NOAUTH")


class Sentinel(RedisServer):
    """One Sentinel. It writes what it learns into its own configuration."""

    def __init__(self, primary: RedisServer, name: str) -> None:
        super().__init__()
        self._config = self.directory / "sentinel.conf"
        self._config.write_text(
            f"bind {HOST}\n"
            f"port {self.port}\n"
            f"dir {self.directory}\n"
            f"requirepass {SENTINEL_PASSWORD}\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {name} {HOST} {primary.port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {name} {DEAD_AFTER_MS}\n"
            f"sentinel failover-timeout {name} 10000\n"
            f'sentinel auth-pass {name} "{PASSWORD}"\n'
        )

    def _answers(self) -> bool:
        return wants_password(self)

    def _launch(self) -> None:
        self._spawn("server", [self._binary, self._config, "--sentinel"])


class RedisWithSentinels(Cluster):
    """A primary, a replica and three Sentinels."""

    name = "test-primary"

    def __init__(self) -> None:
        first = RedisNode()
        self.data = [first, RedisNode(replicaof=f"{HOST} {first.port}")]
        self.sentinels = [Sentinel(first, self.name) for _ in range(3)]
        self.servers = [*self.data, *self.sentinels]

    @property
    def url(self) -> str:
        """See ``Cluster``."""
        places = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        logins = quote(PASSWORD, safe=""), f"sentinel_password={SENTINEL_PASSWORD}"
        return f"redis+sentinel://:{logins[0]}@{places}/{self.name}?{logins[1]}"

    def primary(self) -> RedisServer:
        """The server that the Sentinels agree on, and that agrees itself."""

        def found() -> RedisServer | None:
            ports = set()
            for sentinel in self.sentinels:
                if sentinel.is_running():
                    with plain(sentinel) as client:
                        ports.add(int(client.sentinel_get_master_addr_by_name(self.name)[1]))
            servers = [server for server in self.data if {server.port} == ports]
            if not servers:
                return None
            return servers[0] if is_primary(servers[0]) else None

        return settled(found, "one primary")

    def _form(self) -> None:
        started(self.servers)

    def wait_until_whole(self) -> None:
        """Every Sentinel knows the others and the replica, and the replica has its primary's data."""

        def whole() -> bool:
            for sentinel in self.sentinels:
                with plain(sentinel) as client:
                    known = client.sentinel_master(self.name)
                    replicas = client.sentinel_slaves(self.name)
                if known["num-other-sentinels"] != 2 or known["flags"] != "master":
                    return False
                if [replica["flags"] for replica in replicas] != ["slave"]:
                    return False
            with plain(self.primary()) as client:
                replication = client.info("replication")
            return bool(replication["connected_slaves"] == 1 and replication["slave0"]["state"] == "online")

        settled(whole, "a primary with its replica, under three Sentinels")


class ClusterNode(RedisNode):
    """One node of a Redis Cluster; on its ``bus_port`` it talks to the others."""

    def __init__(self) -> None:
        self.bus_port = free_port()
        super().__init__(
            cluster_enabled="yes",
            cluster_port=str(self.bus_port),
            cluster_node_timeout=str(DEAD_AFTER_MS),
            cluster_require_full_coverage="no",
        )


class RedisCluster(Cluster):
    """Three primaries with a replica each. As long as most primaries live, each slot is served by who is left."""

    def __init__(self) -> None:
        self.nodes = [ClusterNode() for _ in range(6)]
        self.servers = self.nodes

    @property
    def url(self) -> str:
        """See ``Cluster``. The first of the nodes are named, whatever they are by now."""
        places = ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://:{quote(PASSWORD, safe='')}@{places}"

    def primary_of(self, key: str) -> ClusterNode:
        """The node that serves the slot of ``key``, as it says itself."""

        def found() -> ClusterNode | None:
            for node in self.nodes:
                with contextlib.suppress(redis.RedisError), plain(node) as client:
                    # Only who serves the slot answers; a replica or another primary says where to go instead.
                    client.exists(key)
                    return node
            return None

        return settled(found, f"a node that serves {key}")

    @contextlib.contextmanager
    def moving(self, key: str) -> Iterator[None]:
        """Move the slot of ``key`` to another primary: on its way inside the ``with``, arrived after it."""
        source = self.primary_of(key)
        target = next(node for node in self.nodes if node is not source and is_primary(node))
        with plain(source) as here, plain(target) as there:
            slot = here.execute_command("CLUSTER", "KEYSLOT", key)
            here_id, there_id = (client.execute_command("CLUSTER", "MYID") for client in (here, there))
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here_id)
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there_id)
            try:
                yield
            finally:
                while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                    here.execute_command(
                        "MIGRATE", HOST, target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys
                    )
                for client in (there, here):
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there_id)
                # What the others still say of it may reach either of the two, and be believed for a moment.
                settled(lambda: all(self._owner(node, slot) == there_id for node in self.nodes), "one owner")

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """A replica of one of the primaries."""

        def found() -> ClusterNode | None:
            for node in self.nodes:
                with plain(node) as client:
                    if client.info("replication").get("master_port") == primary.port:
                        return node
            return None

        return settled(found, "a replica")

    @staticmethod
    def _owner(node: ClusterNode, slot: int) -> object:
        """The id of the primary that serves ``slot`` as far as ``node`` knows."""
        with plain(node) as client:
            for first, last, primary, *_ in client.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return primary[2]
        return None

    def _form(self) -> None:
        started(self.nodes)
        primaries, replicas = self.nodes[:3], self.nodes[3:]
        for n, node in enumerate(primaries):
            with plain(node) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 16384 * n // 3, 16384 * (n + 1) // 3 - 1)
                # Each with an epoch of its own, so that nothing is left to be settled by chance.
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes[1:]:
            settled(partial(self._introduced, node), "nodes that know each other")
        for primary, replica in zip(primaries, replicas, strict=True):
            with plain(primary) as client:
                its_id = client.execute_command("CLUSTER", "MYID")
            with plain(replica) as client:
                # Refused as long as it does not know the other one.
                settled(partial(client.execute_command, "CLUSTER", "REPLICATE", its_id), "a replica")

    def _introduced(self, node: ClusterNode) -> bool:
        """Whether a node and the first one know each other; if not, it is introduced to it, perhaps again."""
        first = self.nodes[0]
        with plain(node) as client, plain(first) as other:
            its_id = client.execute_command("CLUSTER", "MYID")
            if its_id in other.execute_command("CLUSTER", "NODES"):
                return True
            # A busy machine may be too slow for a handshake, and nodes forget one that takes too long.
            client.execute_command("CLUSTER", "MEET", HOST, first.port, first.bus_port)
            time.sleep(0.2)
            return False

    def wait_until_whole(self) -> None:
        """Every node sees three primaries that serve all slots, and three replicas that have their data."""

        def whole() -> bool:
            for node in self.nodes:
                with plain(node) as client:
                    info = client.execute_command("CLUSTER", "INFO").split()
                    lines = client.execute_command("CLUSTER", "NODES").splitlines()
                    replication = client.info("replication")
                flags = [line.split()[2].removeprefix("myself,") for line in lines]
                if not {"cluster_state:ok", "cluster_slots_ok:16384"} <= set(info):
                    return False
                if sorted(flags) != ["master"] * 3 + ["slave"] * 3:
                    return False
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
            return True

        settled(whole, "three primaries with three replicas")


class RabbitNode(RabbitServer):
    """One node of a RabbitMQ cluster. The first one has the port mapper that all use, and the cookie that lets in."""

    def __init__(self, first: RabbitNode | None = None) -> None:
        self._first = first
        super().__init__()

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        # Whoever is cut off from the others stops, so that there are never two halves that both serve.
        config = "cluster_partition_handling = pause_minority\n"
        if self._first is not None:
            config += "cluster_formation.peer_discovery_backend = classic_config\n"
            config += f"cluster_formation.classic_config.nodes.1 = {self._first.node}\n"
            config += f"cluster_formation.classic_config.nodes.2 = {self.node}\n"
            cookie = Path(".erlang.cookie")
            shutil.copy(self._first.directory / cookie, self.directory / cookie)
            environment["ERL_EPMD_PORT"] = str(self._first._epmd_port)
        with Path(environment["RABBITMQ_CONFIG_FILE"]).open("a", encoding="ascii") as file:
            file.write(config)
        return environment

    def _launch(self) -> None:
        if self._first is None:
            super()._launch()
        else:
            self._spawn("server", [self._programs / "rabbitmq-server"], self._env)


class RabbitCluster(Cluster):
    """Three nodes; quorum queues are served as long as two of them live."""

    def __init__(self) -> None:
        self.first = RabbitNode()
        self.servers = self.nodes = [self.first]

    @property
    def url(self) -> str:
        """See ``Cluster``."""
        return ",".join(node.url for node in self.nodes)

    def running(self) -> list[RabbitNode]:
        """Those that can be asked."""
        return [node for node in self.nodes if node.is_running()]

    def leader_of(self, queue: str) -> RabbitNode:
        """The node that leads a quorum queue."""

        def found() -> RabbitNode | None:
            listed = self.running()[0].ctl("list_queues", "--no-table-headers", "name", "leader")
            leaders = dict(line.split("\t") for line in listed.splitlines())
            return next((node for node in self.running() if node.node == leaders.get(queue)), None)

        return settled(found, f"a leader of the queue {queue}")

    def _form(self) -> None:
        self.first.start()
        others = [RabbitNode(self.first) for _ in range(2)]
        self.nodes += others
        started(others)

    def wait_until_whole(self) -> None:
        """Every node serves, and sees the two others."""

        def whole() -> bool:
            for node in self.nodes:
                status = json.loads(node.ctl("cluster_status", "--formatter", "json"))
                if set(status["running_nodes"]) != {each.node for each in self.nodes}:
                    return False
            return True

        settled(whole, "three nodes that see each other")
