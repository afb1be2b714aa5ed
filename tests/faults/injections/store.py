"""Redis is killed, restarted, paused and emptied, and an embedded file is locked."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable

import redis

from tests.faults.injections.deck import STORE, fault, has_servers
from tests.faults.ledger import Attempt, Kind, Mark
from tests.faults.world import World

_PROBE = "faults:probe"
# What a Redis that syncs every second may lose at most: it writes late while a sync is under way.
_UNSYNCED_SECONDS = 2.0


class Beacon:
    """Writes the time to Redis over and over, to learn from what moment on a Redis that was killed has forgotten."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._client.set(_PROBE, time.monotonic())
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(redis.RedisError):
            while True:
                self._client.set(_PROBE, time.monotonic())
                time.sleep(0.002)

    def remembered(self, client: redis.Redis) -> float:
        """The last moment of which a Redis that was started again knows."""
        self._thread.join(5)
        return float(client.get(_PROBE) or 0)


@fault(STORE, has_servers)
def redis_killed(world: World) -> None:
    """It forgets what was not written to its file; what was written survives the process."""
    server, pid = world.servers.store, world.servers.store.pid
    with world.direct_redis() as client:
        beacon = Beacon(client)
        world.sleep(0.3, 0.8)
        server.kill()
    killed = time.monotonic()
    world.must_meet("no request was refused", _is_refused_in(world))
    world.sleep(0.4, 1.5)
    server.start()
    world.check(server.pid != pid, "the process lives on")
    with world.direct_redis() as client:
        remembered = beacon.remembered(client)
    if remembered < killed - _UNSYNCED_SECONDS - 1:
        world.violations.append(f"Redis has forgotten the last {killed - remembered:.1f} s")
    world.marks.append(Mark(Kind.ROLLED_BACK, remembered, killed))


@fault(STORE, has_servers)
def redis_killed_that_syncs_always(world: World) -> None:
    """What it has answered it knows again: nothing is excused."""
    server, pid = world.servers.store, world.servers.store.pid
    with world.direct_redis() as client:
        client.config_set("appendfsync", "always")
        world.check(client.config_get("appendfsync")["appendfsync"] == "always", "it does not sync always")
    server.kill()
    world.must_meet("no request was refused", _is_refused_in(world))
    world.sleep(0.4, 1.5)
    server.start()
    world.check(server.pid != pid, "the process lives on")


@fault(STORE, has_servers)
def redis_restarted(world: World) -> None:
    server, pid = world.servers.store, world.servers.store.pid
    server.stop()
    world.must_meet("no request was refused", _is_refused_in(world))
    world.sleep(0.4, 1.0)
    server.start()
    world.check(server.pid != pid, "the process lives on")


@fault(STORE, has_servers)
def redis_paused(world: World) -> None:
    with world.servers.store.paused():
        with world.direct_redis() as client, contextlib.suppress(redis.TimeoutError):
            client.connection_pool.connection_kwargs["socket_timeout"] = 0.5
            client.ping()
            world.check(False, "it answers")
        world.must_meet("no request was refused", _is_refused_in(world))
        world.sleep(0.3, 4.0)
    world.check(True, "")


@fault(STORE, has_servers)
def redis_flushed(world: World) -> None:
    with world.direct_redis() as client:
        client.set(_PROBE, "1")
        world.check(client.dbsize() > 1, "there was nothing to forget")
        if world.random.random() < 0.5:
            client.script_flush()
        with world.marked(Kind.FLUSHED):
            client.flushall()
        world.check(client.get(_PROBE) is None, "it remembers")


@fault(STORE, lambda setup: setup.is_embedded)
def file_locked(world: World) -> None:
    """Another program holds the write lock of the file, as a back-up or a careless shell does."""
    path = world.backend.redis_url.removeprefix("embedded:")
    with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        world.check(connection.in_transaction, "the lock was not taken")
        world.must_meet("no request was refused", _is_refused_in(world))
        with world.marked(Kind.BROKER):
            world.sleep(1.0, 6.0)
            connection.execute("ROLLBACK")


def _is_refused_in(world: World) -> Callable[[Attempt], bool]:
    """Whether an attempt shows that the store was away: refused, or, where that is allowed, served all the same."""

    def meets(attempt: Attempt) -> bool:
        return attempt.code == "SERVICE_UNAVAILABLE" or (world.setup.allows and attempt.is_accepted)

    return meets
