"""What a backlog in RabbitMQ costs: the gateway in front of an empty queue, and of a queue with a million messages."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime

from gateway.rabbitmq import RabbitOutbox, Topology
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Message, Route
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.bench.growth import load, usage
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import folder
from tests.support.gateways import NUMBER, Gateway
from tests.support.servers import RabbitServer

QUEUE_TYPES = ("quorum", "classic")
_IN_FLIGHT = 2000
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1.0
_TELL_EACH = 100_000
# No message expires while it is being counted.
_TTL_SECONDS = 86400


def measure(count: int, seconds: float) -> list[Table]:
    """For an empty queue and for one in which ``count`` messages wait, of each type."""
    table = Table(
        "backlog",
        "Messages waiting in RabbitMQ; sends without a key over 16 connections",
        (
            "queue",
            "waiting",
            "gateway µs",
            "RabbitMQ µs",
            "p50 ms",
            "p99 ms",
            "RabbitMQ RSS MiB",
            "its disk MiB",
        ),
    )
    filling = Table(
        "filling",
        f"Filling the queue, {_IN_FLIGHT:,} messages in flight on one connection",
        ("queue", "messages", "messages/s", "RabbitMQ µs"),
    )
    for queue_type in QUEUE_TYPES:
        with folder() as directory, RabbitServer() as broker:
            environ = {
                "REDIS_URL": f"embedded:{directory / 'gateway.db'}",
                "RABBITMQ_URL": broker.url,
                "RABBITMQ_QUEUE_TYPE": queue_type,
            }
            with Gateway(directory, environ) as gateway:
                add_row(table, gateway, broker, queue_type, 0, seconds)
                say(f"{count:,} messages into the {queue_type} queue")
                started = time.perf_counter()

                def work(url: str = broker.url, queue_type: str = queue_type) -> int:
                    asyncio.run(fill(url, queue_type, count))
                    return count

                used = usage.cpu_during({"RabbitMQ": broker.pid}, work)
                rate = count / (time.perf_counter() - started)
                filling.add(queue_type, count, rate, used["RabbitMQ"])
                add_row(table, gateway, broker, queue_type, count, seconds)
    return [table, filling]


def add_row(
    table: Table, gateway: Gateway, broker: RabbitServer, queue_type: str, waiting: int, seconds: float
) -> None:
    """Send for so long in front of what waits."""
    assert gateway.process is not None
    load.send(gateway.port, _CONNECTIONS, min(_WARM_UP_SECONDS, seconds), load.requests(keyed=False))
    done = load.Load()

    def work() -> int:
        nonlocal done
        done = load.send(gateway.port, _CONNECTIONS, seconds, load.requests(keyed=False))
        return done.accepted

    memory, disk = usage.rss_mib(broker.pid), usage.folder_mib(broker.directory)
    cpu = usage.cpu_during({"gateway": gateway.process.pid, "RabbitMQ": broker.pid}, work)
    latency = (done.milliseconds(50), done.milliseconds(99))
    table.add(queue_type, waiting, cpu["gateway"], cpu["RabbitMQ"], *latency, memory, disk)


async def fill(url: str, queue_type: str, count: int) -> None:
    """Publish so many messages as the gateway does, confirmed each, many in flight."""
    outbox = RabbitOutbox(url, Topology(queue_type=queue_type), "growth", confirm_seconds=60.0)
    await outbox.start()
    left = iter(range(count))

    async def publish() -> None:
        for number in left:
            await insist(outbox)
            if number % _TELL_EACH == _TELL_EACH - 1:
                say(f"  {number + 1:,} of {count:,}")

    try:
        await asyncio.gather(*(publish() for _ in range(min(_IN_FLIGHT, count))))
    finally:
        await outbox.close()


async def insist(outbox: RabbitOutbox) -> None:
    """Publish one message, and again while the broker does not take it."""
    message = envelope()
    while True:
        try:
            await outbox.publish_body(
                message.tracking_id, message.to_json(), _TTL_SECONDS * 1000, message.created_at
            )
        except (BrokerRefused, BrokerUnknown):
            await asyncio.sleep(0.1)
        else:
            return


def envelope() -> Envelope:
    """A message as a gateway with one provider makes it."""
    return Envelope(
        str(uuid.uuid4()),
        "shop0001",
        Message(NUMBER, load.TEXT, _TTL_SECONDS),
        Route(("provider-1",)),
        ConfigFingerprint("0" * 64, "0" * 64),
        datetime.now(UTC),
    )
