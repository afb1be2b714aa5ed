"""What one send costs each process, over Redis and RabbitMQ, by the number of connections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import redis

from tests.bench.growth import load, usage
from tests.bench.growth.load import Load
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import folder
from tests.support.gateways import Backend, Gateway
from tests.support.servers import RabbitServer, RedisServer

_WARM_UP_SECONDS = 1.0


def measure(connections: Sequence[int], seconds: float) -> list[Table]:
    """For each number of connections, with a key and without."""
    table = Table(
        "sends",
        "One send over Redis and RabbitMQ (quorum queue): CPU by process",
        (
            "connections",
            "key",
            "sends/s",
            "gateway µs",
            "Redis µs",
            "RabbitMQ µs",
            "p50 ms",
            "p99 ms",
        ),
    )
    wire = Table(
        "wire",
        "One send with a key: bytes from the gateway and back, and on the disks",
        ("way", "to it bytes", "back bytes", "disk bytes"),
    )
    with folder() as directory, RedisServer() as store, RabbitServer() as broker:
        backend = Backend("servers", store.url, broker.url)
        with Gateway(directory, backend.environ()) as gateway:
            for count in connections:
                for keyed in (True, False):
                    say(f"{count} connections, {'with a key' if keyed else 'without'}")
                    done, cpu = send(gateway, store, broker, count, seconds, keyed=keyed)
                    table.add(
                        count,
                        "yes" if keyed else "no",
                        done.accepted / done.elapsed,
                        cpu["gateway"],
                        cpu["Redis"],
                        cpu["RabbitMQ"],
                        done.milliseconds(50),
                        done.milliseconds(99),
                    )
            add_bytes(wire, gateway, store, broker, seconds)
    return [table, wire]


def send(
    gateway: Gateway,
    store: RedisServer,
    broker: RabbitServer,
    connections: int,
    seconds: float,
    *,
    keyed: bool,
) -> tuple[Load, dict[str, float]]:
    """Send for so long; what came of it, and the CPU µs that each process used for one send."""
    assert gateway.process is not None
    request = load.requests(keyed=keyed)
    load.send(gateway.port, connections, min(_WARM_UP_SECONDS, seconds), request)
    done = Load()

    def work() -> int:
        nonlocal done
        done = load.send(gateway.port, connections, seconds, request)
        return done.accepted

    pids = {"gateway": gateway.process.pid, "Redis": store.pid, "RabbitMQ": broker.pid}
    cpu = usage.cpu_during(pids, work)
    return done, cpu


def add_bytes(
    table: Table, gateway: Gateway, store: RedisServer, broker: RabbitServer, seconds: float
) -> None:
    """What Redis and RabbitMQ themselves count on their connections and write to their disks."""
    with redis.Redis.from_url(store.url) as client:
        # While Redis writes its append-only file anew, its size says nothing.
        client.config_set("auto-aof-rewrite-percentage", 0)
        before = client.info("stats"), client.info("persistence")["aof_current_size"], octets(broker)
        data, logged = disk_bytes(broker.directory), gateway.log_path.stat().st_size
        accepted = load.send(gateway.port, 16, seconds, load.requests(keyed=True)).accepted
        after = client.info("stats"), client.info("persistence")["aof_current_size"], octets(broker)
    logged = gateway.log_path.stat().st_size - logged
    inward, outward = (
        (after[0][name] - before[0][name]) / accepted
        for name in ("total_net_input_bytes", "total_net_output_bytes")
    )
    request = len(load.requests(keyed=True)())
    answer = gateway.send(key="a-key-of-its-own")
    head = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
    table.add(
        "sender to gateway", request, len("HTTP/1.1 202 Accepted\r\n\r\n") + head + len(answer.content), 0
    )
    table.add("gateway to Redis", inward, outward, (after[1] - before[1]) / accepted)
    table.add(
        "gateway to RabbitMQ",
        (after[2][0] - before[2][0]) / accepted,
        (after[2][1] - before[2][1]) / accepted,
        (disk_bytes(broker.directory) - data) / accepted,
    )
    table.add("gateway to its log", logged / accepted, 0, logged / accepted)


def octets(broker: RabbitServer) -> tuple[int, int]:
    """What all of RabbitMQ's connections have received and sent."""
    rows = [row.split() for row in broker.ctl("list_connections", "recv_oct", "send_oct").splitlines()]
    figures = [(int(row[0]), int(row[1])) for row in rows if len(row) == 2 and row[0].isdigit()]
    return sum(received for received, _ in figures), sum(sent for _, sent in figures)


def disk_bytes(directory: Path) -> float:
    """What a server has on its disk."""
    return usage.folder_mib(directory) * 2**20
