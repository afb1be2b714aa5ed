"""What Redis keeps for each message, in bytes, written by the gateway's own store."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from gateway.redis.store import RedisStore
from pipeline import codes
from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client
from pipeline.failures import Refused
from pipeline.ports import Begun
from tests.bench.growth.report import Table, say
from tests.support.servers import RedisServer

BUDGET_BYTES = 300
"""What the record of a key may take of Redis's memory, all told."""

CLIENT = Client("shop0001", daily_quota=10**9)
_IN_FLIGHT = 100
_SAMPLE = 500

Write = Callable[[RedisStore, Claim], Awaitable[None]]


@dataclass(frozen=True)
class Bytes:
    """Of one record: the growth of ``used_memory``, its parts, and what went to the append-only file."""

    used: float
    memory_usage: float
    hashtable: float
    appended: float
    encoding: str


def measure(count: int) -> list[Table]:
    """Over ``count`` records of each kind, each in an empty Redis."""
    table = Table(
        "records",
        "Bytes in Redis for one message",
        (
            "record",
            "records",
            "used_memory",
            "MEMORY USAGE",
            "hash tables and expiry",
            "encoding",
            "append-only file",
        ),
    )
    with RedisServer() as server:
        for kind, write in KINDS.items():
            say(f"{count:,} records: {kind}")
            found = asyncio.run(grow(server, count, write))
            table.add(
                kind, count, found.used, found.memory_usage, found.hashtable, found.encoding, found.appended
            )
    return [table]


async def grow(server: RedisServer, count: int, write: Write) -> Bytes:
    """What each of ``count`` records takes."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        # While Redis writes its append-only file anew, its size says nothing.
        client.config_set("auto-aof-rewrite-percentage", 0)
        # One client has all of them, and more refusals than are kept of one.
        store = RedisStore(server.url, call_seconds=30.0, max_refusal_bytes=2**53)
        await store.start()
        while not client.client_list(_type="normal")[1:]:
            await asyncio.sleep(0.05)
        # So that scripts, buffers and the client's counter are there before.
        await write(store, claim())
        before, appended = used_memory(client), appended_bytes(client)
        claims = (claim() for _ in range(count))

        async def work() -> None:
            for one in claims:
                await write(store, one)

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
        after = used_memory(client)
        appended = appended_bytes(client) - appended
        await store.close()
        keys: list[bytes] = list(itertools.islice(client.scan_iter(match="*{*", count=1000), _SAMPLE))
        # The client's counter is one key among all of these, whose values lie in a hash or a string of their own.
        usage = sum(int(client.memory_usage(key, samples=0) or 0) for key in keys) / len(keys)
        tables: dict[str, Any] = client.memory_stats()["db.0"]
        encoding = client.object("encoding", keys[-1])
    return Bytes(
        used=(after - before) / count,
        memory_usage=usage,
        hashtable=(tables["overhead.hashtable.main"] + tables["overhead.hashtable.expires"]) / count,
        appended=appended / count,
        encoding=encoding.decode(),
    )


def claim() -> Claim:
    """On a key as senders make them: a UUID of 36 characters."""
    return Claim.on(CLIENT, str(uuid.uuid4()), hashlib.sha256(secrets.token_bytes(32)).digest())


async def pending(store: RedisStore, one: Claim) -> None:
    assert isinstance(await store.begin(one), Begun)
    await store.take(CLIENT, datetime.now(UTC).date(), one.token, one)


async def done(store: RedisStore, one: Claim) -> None:
    await pending(store, one)
    await store.complete(one, accepted(one.tracking_id))


async def refused(store: RedisStore, one: Claim) -> None:
    assert isinstance(await store.begin(one), Begun)
    await store.complete(one, refusal(one.tracking_id))


async def without_key(store: RedisStore, one: Claim) -> None:
    await store.take(CLIENT, datetime.now(UTC).date(), one.token, None)


def refusal(tracking_id: str) -> Answer:
    """As a gateway with two providers answers who names a third."""
    details = {"unknown": ["gamma"], "allowed": ["alpha", "beta"]}
    return Refused(codes.UNKNOWN_PROVIDER, details=details).answer(tracking_id, datetime.now(UTC))


KINDS: dict[str, Write] = {
    "accepted, with a key": done,
    "in flight, with a key": pending,
    "refused, with a key": refused,
    "without a key, for 5 minutes": without_key,
}


def used_memory(client: redis.Redis) -> int:
    """What Redis has allocated, its tables of keys included."""
    return int(client.info("memory")["used_memory"])


def appended_bytes(client: redis.Redis) -> int:
    return int(client.info("persistence")["aof_current_size"])
