"""Which adapters the URLs in the settings ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.config.parsers import EMBEDDED, rabbitmq_tls
from gateway.config.settings import Settings
from gateway.dependency import Dependency, HeartbeatBus, Store
from gateway.embedded.database import Database
from gateway.embedded.heartbeats import EmbeddedHeartbeats
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from gateway.observability.metrics import Metrics
from gateway.rabbitmq.heartbeats import RabbitHeartbeats
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import Topology
from gateway.redis.store import RedisStore
from gateway.spool.file import Spool
from gateway.spool.outbox import SpoolingOutbox
from pipeline.ports import Outbox


class StoreBackend(Store, Dependency, Protocol):
    """Claims and quotas, with a life."""


class BrokerBackend(Outbox, Dependency, Protocol):
    """The outbox, with a life."""


class BusBackend(HeartbeatBus, Protocol):
    """The heartbeats' way, with a life."""

    async def start(self) -> None:
        """See ``gateway.dependency.Dependency``."""

    async def close(self) -> None:
        """See ``gateway.dependency.Dependency``."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What lives with the application; nothing is opened before ``start``."""

    store: StoreBackend
    broker: BrokerBackend
    bus: BusBackend
    spool: Dependency | None = None


def topology(settings: Settings) -> Topology:
    """The exchanges and queues that the settings name."""
    return Topology(
        exchange=settings.exchange,
        queue=settings.queue,
        queue_type=settings.queue_type,
        heartbeat_exchange=settings.heartbeat_exchange,
        heartbeat_queue=settings.heartbeat_queue,
    )


def destination(settings: Settings, url: str) -> RabbitOutbox:
    """Where ``sms-gateway forward`` moves messages to.

    Raises ``ValueError`` for a URL that is none, and for one whose certificates cannot be used.
    """
    if mistakes := [mistake for tls in rabbitmq_tls(url) for mistake in tls.mistakes()]:
        raise ValueError("; ".join(mistakes))
    return RabbitOutbox(url, topology(settings), settings.service_name)


def choose(settings: Settings, metrics: Metrics) -> Backends:
    """The adapters, constructed; one file is opened once, whoever keeps what in it."""
    databases: dict[Path, Database] = {}

    def database(url: str) -> Database:
        path = Path(url.removeprefix(EMBEDDED)).absolute()
        if path not in databases:
            databases[path] = Database(path)
        return databases[path]

    watch_store, watch_broker = metrics.watch_connection("store"), metrics.watch_connection("broker")
    store: StoreBackend
    if settings.redis_url.startswith(EMBEDDED):
        store = EmbeddedStore(
            database(settings.redis_url),
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            on_connection=watch_store,
            on_call=metrics.watch_store(),
        )
    else:
        store = RedisStore(
            settings.redis_url,
            quota_prefix=settings.quota_prefix,
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            on_connection=watch_store,
            on_call=metrics.watch_store(),
        )
    if settings.rabbitmq_url.startswith(EMBEDDED):
        file = database(settings.rabbitmq_url)
        return Backends(
            store,
            EmbeddedOutbox(file, on_connection=watch_broker),
            EmbeddedHeartbeats(file, poll_seconds=min(5.0, settings.heartbeat_interval_seconds)),
        )
    broker = RabbitOutbox(
        settings.rabbitmq_url, topology(settings), settings.service_name, on_connection=watch_broker
    )
    bus = RabbitHeartbeats(settings.rabbitmq_url, topology(settings), settings.service_name)
    if settings.spool is None:
        return Backends(store, broker, bus)
    spool = Spool(
        database(settings.spool),
        settings.spool_max_messages,
        on_connection=metrics.watch_connection("spool"),
    )
    metrics.watch_spool(spool.look)
    outbox = SpoolingOutbox(broker, spool, on_spooled=metrics.spooled.inc, on_moved=metrics.spool_moved.inc)
    return Backends(store, outbox, bus, spool)
