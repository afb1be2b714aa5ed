"""Which adapters the URLs ask for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gateway import backends
from gateway.config import settings
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from gateway.observability.metrics import Metrics
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.redis.store import RedisStore
from gateway.spool.outbox import SpoolingOutbox


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choose(redis_url: str, rabbitmq_url: str) -> tuple[backends.Backends, Metrics]:
    metrics = Metrics()
    configured = settings.load({"REDIS_URL": redis_url, "RABBITMQ_URL": rabbitmq_url})
    return backends.choose(configured, metrics), metrics


@pytest.mark.parametrize(
    ("redis_url", "rabbitmq_url", "store", "broker"),
    [
        ("embedded:a.db", "embedded:a.db", EmbeddedStore, EmbeddedOutbox),
        ("redis://127.0.0.1:1/", "amqp://127.0.0.1:1/", RedisStore, RabbitOutbox),
        ("redis://127.0.0.1:1/", "embedded:a.db", RedisStore, EmbeddedOutbox),
        ("embedded:a.db", "amqp://127.0.0.1:1/", EmbeddedStore, RabbitOutbox),
    ],
)
def test_each_url_chooses_its_adapter(
    redis_url: str, rabbitmq_url: str, store: type, broker: type, empty_directory: Path
) -> None:
    """Either may be embedded; both have the names that health reports; nothing is opened; no connection is up."""
    chosen, metrics = choose(redis_url, rabbitmq_url)
    assert (type(chosen.store), type(chosen.broker)) == (store, broker)
    assert (chosen.store.name, chosen.broker.name) == ("store", "broker")
    assert list(empty_directory.iterdir()) == []
    for dependency in ("store", "broker"):
        assert metrics.registry.get_sample_value("sms_connection_up", {"dependency": dependency}) == 0


def test_one_file_is_opened_once() -> None:
    """Store and outbox on one path share its one writer; on two paths they do not."""
    for path, shared in (("a.db", True), ("b.db", False)):
        chosen, _ = choose("embedded:a.db", f"embedded:{path}")
        assert isinstance(chosen.store, EmbeddedStore)
        assert isinstance(chosen.broker, EmbeddedOutbox)
        assert (chosen.store.database is chosen.broker.database) is shared


def test_one_file_is_one_however_it_is_written(empty_directory: Path) -> None:
    """Two writers of one process would lock each other out."""
    for one, other in (("a.db", "./a.db"), ("a.db", f"{empty_directory}/a.db")):
        chosen, _ = choose(f"embedded:{one}", f"embedded:{other}")
        assert isinstance(chosen.store, EmbeddedStore)
        assert isinstance(chosen.broker, EmbeddedOutbox)
        assert chosen.store.database is chosen.broker.database


def test_the_configured_life_of_an_answer_reaches_the_store() -> None:
    """IDEMPOTENCY_TTL_SECONDS is how long an answer is kept, wherever it is kept."""
    urls = {"REDIS_URL": "redis://127.0.0.1:1/", "RABBITMQ_URL": "embedded:a.db"}
    on_redis = backends.choose(settings.load({**urls, "IDEMPOTENCY_TTL_SECONDS": "60"}), Metrics()).store
    urls["REDIS_URL"] = "embedded:a.db"
    embedded = backends.choose(settings.load({**urls, "IDEMPOTENCY_TTL_SECONDS": "60"}), Metrics()).store
    assert isinstance(on_redis, RedisStore)
    assert isinstance(embedded, EmbeddedStore)
    assert (on_redis._keep_ms, embedded._ttl_ms) == (60_000, 60_000)


def test_a_spool_is_a_file_beside_the_broker(empty_directory: Path) -> None:
    """Without one there is none. Nothing is opened, and its depth is not known before that."""
    assert choose("embedded:a.db", "amqp://127.0.0.1:1/")[0].spool is None
    metrics = Metrics()
    configured = settings.load(
        {
            "REDIS_URL": "embedded:a.db",
            "RABBITMQ_URL": "amqp://127.0.0.1:1/",
            "RABBITMQ_SPOOL": "spool.db",
            "SPOOL_MAX_MESSAGES": "7",
        }
    )
    chosen = backends.choose(configured, metrics)
    assert isinstance(chosen.broker, SpoolingOutbox)
    assert chosen.broker.spool is chosen.spool
    assert isinstance(chosen.broker.broker, RabbitOutbox)
    assert chosen.spool is not None
    assert chosen.spool.name == "spool"
    metrics.exposition("")
    depth = metrics.registry.get_sample_value("sms_spool_messages")
    assert depth is not None
    assert math.isnan(depth)
    assert list(empty_directory.iterdir()) == []


def test_the_topology_has_the_configured_names() -> None:
    """What operators name is what is declared."""
    configured = settings.load(
        {
            "REDIS_URL": "embedded:x",
            "RABBITMQ_URL": "embedded:x",
            "RABBITMQ_EXCHANGE": "e",
            "RABBITMQ_QUEUE": "q",
            "RABBITMQ_QUEUE_TYPE": "classic",
            "RABBITMQ_HEARTBEAT_EXCHANGE": "he",
            "RABBITMQ_HEARTBEAT_QUEUE": "hq",
        }
    )
    found = backends.topology(configured)
    assert (found.exchange, found.queue, found.queue_type) == ("e", "q", "classic")
    assert (found.heartbeat_exchange, found.heartbeat_queue) == ("he", "hq")
