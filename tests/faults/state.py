"""What the gateways have stored, as it is read past them: counters, answers, and what waits in spools."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from gateway.redis import packing
from gateway.redis.keys import Keys
from pipeline.facts import derive_tracking_id
from tests.faults.ledger import Message
from tests.faults.load import NAMES
from tests.faults.servers import Servers
from tests.support.gateways import Backend


class State:
    """Of the gateways on ``backend``, whose spools are in these files."""

    def __init__(self, backend: Backend, servers: Servers, spools: Sequence[Path]) -> None:
        self._backend = backend
        self._servers = servers
        self._spools = spools

    def used(self) -> dict[tuple[str, str], int]:
        """How many messages are counted, by client and day."""
        if self._backend.redis_url.startswith("embedded:"):
            return self._used_in_file()
        used = {}
        prefix = self._backend.queue
        with self._redis() as client:
            for name in NAMES:
                for key in client.scan_iter(f"{prefix}:{{{name}}}:20*"):
                    used[name, key.decode().rpartition(":")[2]] = int(client.get(key) or 0)
        return used

    def stored_answers(self, messages: Sequence[Message]) -> Iterator[bytes]:
        """The answers that Redis keeps, as they were before they were packed: what is deflated hides what it holds."""
        if self._backend.redis_url.startswith("embedded:"):
            return
        keys = Keys(self._backend.queue)
        with self._redis() as client:
            for message in messages:
                if message.key is None:
                    continue
                fingerprint, packed = client.hmget(keys.claim(message.client, message.key), "f", "r")
                if packed is not None:
                    tracking_id = derive_tracking_id(message.client, message.key, fingerprint)
                    yield packing.unpack(packed, tracking_id)

    def spooled(self) -> int:
        """How many messages wait in the spools."""
        found = 0
        for path in self._spools:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as file:
                (count,) = file.execute("SELECT count(*) FROM messages").fetchone()
                found += int(count)
        return found

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._servers.store.url, socket_timeout=5)

    def _used_in_file(self) -> dict[tuple[str, str], int]:
        path = self._backend.redis_url.removeprefix("embedded:")
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as file:
            rows = file.execute("SELECT client, day, used FROM quotas").fetchall()
        return {(client, day): used for client, day, used in rows}
