"""A clock that jumps under a store.

A store knows of time what it has written down, and compares it with the clock. So the clock is made to jump by moving
all that is written of one client the other way: in the embedded file, and in Redis, whose own expiries are moments too.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from gateway.redis.keys import Keys
from pipeline.facts import Client
from tests.support.servers import RedisServer

Jump = Callable[[Client, float], None]
"""Lets the clock of the store go ahead by so many seconds, or back, for what it holds of the client."""


def _redis(request: pytest.FixtureRequest) -> Jump:
    server: RedisServer = request.getfixturevalue("redis_server")

    def jump(client: Client, seconds: float) -> None:
        milliseconds = round(seconds * 1000)
        hash_tag = Keys("").counters(client.name).decode()
        with redis.Redis.from_url(server.url) as connection:
            for key in list(connection.scan_iter(match=f"*{hash_tag}*", count=10_000)):
                if connection.type(key) == b"hash" and (leased_until := connection.hget(key, "l")):
                    connection.hset(key, "l", str(int(cast("Any", leased_until)) - milliseconds))
                # Of no time left, or of less, it deletes the key, as its clock does.
                connection.pexpire(key, cast("int", connection.pttl(key)) - milliseconds)

    return jump


def _embedded(request: pytest.FixtureRequest) -> Jump:
    path: Path = request.getfixturevalue("tmp_path") / "gateway.db"

    def jump(client: Client, seconds: float) -> None:
        moved = {"ms": round(seconds * 1000), "client": client.name}
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            for statement in (
                "UPDATE claims SET expires_at = expires_at - :ms WHERE client = :client",
                "UPDATE claims SET leased_until = leased_until - :ms WHERE client = :client AND leased_until > 0",
                "UPDATE reservations SET expires_at = expires_at - :ms WHERE client = :client",
            ):
                connection.execute(statement, moved)

    return jump


CLOCKS: dict[str, Callable[[pytest.FixtureRequest], Jump]] = {"redis": _redis, "embedded": _embedded}
"""Of the stores of the same name in ``tests.contract.stores``."""
