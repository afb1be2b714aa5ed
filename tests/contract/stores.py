"""The stores that keep the contract of ``Claims`` and ``Quotas``; who writes another one adds it to ``STORES``."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import pytest

from gateway.dependency import Dependency
from gateway.embedded.database import Database
from gateway.embedded.store import EmbeddedStore
from gateway.redis.store import RedisStore
from pipeline.facts import Claim, Client
from pipeline.ports import Claims, QuotaExceeded, Quotas
from tests.support.clusters import RedisCluster, RedisWithSentinels
from tests.support.servers import RedisServer

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)


class Store(Claims, Quotas, Dependency, Protocol):
    """What the contract is about."""


class Construct(Protocol):
    """Makes a store on the place that belongs to one test; all of its stores share their data."""

    def __call__(
        self,
        *,
        idempotency_ttl_seconds: int = 86400,
        lease_seconds: float = 15.0,
        max_refusal_bytes: int = 1_048_576,
        call_seconds: float = 30.0,
    ) -> Store:
        """A store that is not started yet. A call may take long: these tests are not about time."""


OpenStore = Callable[..., Awaitable[Store]]
"""Takes what ``Construct`` takes; gives a store that is started, and closed after the test."""


def _redis(request: pytest.FixtureRequest) -> Construct:
    server: RedisServer = request.getfixturevalue("redis_server")
    return _at(server.url)


def _redis_sentinel(request: pytest.FixtureRequest) -> Construct:
    cluster: RedisWithSentinels = request.getfixturevalue("redis_with_sentinels")
    return _at(cluster.url)


def _redis_cluster(request: pytest.FixtureRequest) -> Construct:
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return _at(cluster.url)


def _at(url: str) -> Construct:
    def construct(
        *,
        idempotency_ttl_seconds: int = 86400,
        lease_seconds: float = 15.0,
        max_refusal_bytes: int = 1_048_576,
        call_seconds: float = 30.0,
    ) -> Store:
        return RedisStore(
            url,
            idempotency_ttl_seconds=idempotency_ttl_seconds,
            lease_seconds=lease_seconds,
            max_refusal_bytes=max_refusal_bytes,
            call_seconds=call_seconds,
        )

    return construct


def _embedded(request: pytest.FixtureRequest) -> Construct:
    path = request.getfixturevalue("tmp_path") / "gateway.db"

    def construct(
        *,
        idempotency_ttl_seconds: int = 86400,
        lease_seconds: float = 15.0,
        max_refusal_bytes: int = 1_048_576,
        call_seconds: float = 30.0,
    ) -> Store:
        # Each on a connection of its own, as in processes that share the file.
        return EmbeddedStore(
            Database(path),
            idempotency_ttl_seconds=idempotency_ttl_seconds,
            lease_seconds=lease_seconds,
            max_refusal_bytes=max_refusal_bytes,
            call_seconds=call_seconds,
        )

    return construct


STORES: dict[str, Callable[[pytest.FixtureRequest], Construct]] = {
    "redis": _redis,
    "embedded": _embedded,
    "redis-sentinel": _redis_sentinel,
    "redis-cluster": _redis_cluster,
}
ON_SERVERS = {"redis"}
ON_CLUSTERS = {"redis-sentinel", "redis-cluster"}

NAMES = (
    "a",
    "A",
    "a b",
    "a%20b",
    "a:b",
    "{a}",
    "%7Ba%7D",
    "{}",
    "}a{",
    "a}:r:{b",
    "*?[a]\\",
    "'\"`;--",
    "شرکت",
    "é",
    "e\u0301",
    "🎉",
    "x" * 64,
)
"""Names of clients that must be kept apart; the tests put something before them, never after."""


def claim_on(client: Client, key: str = "key", payload: bytes = b"payload") -> Claim:
    """A request's claim, with a token of its own."""
    return Claim.on(client, key, hashlib.sha256(payload).digest())


async def used_by(store: Quotas, client: Client, day: date = TODAY) -> int:
    """How many messages of ``client`` are counted on ``day``; asking counts none."""
    asked = await store.take(Client(client.name, daily_quota=0), day, "ask", None)
    assert isinstance(asked, QuotaExceeded)
    return asked.used
