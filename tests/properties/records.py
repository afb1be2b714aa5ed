"""What a store holds of one client, read and changed past its adapter."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import redis

from gateway.redis.keys import Keys

ENDED = 1
AHEAD = 4 * 10**12
"""Ends of leases, in ms since 1970, that hold nobody: long ago, and by a clock that has been set back since."""


@dataclass(frozen=True)
class Record:
    """A claim's record."""

    fingerprint: bytes
    token: str | None
    is_leased: bool
    is_armed: bool
    charged_on: str | None
    answer: bytes | None


@dataclass(frozen=True)
class Holdings:
    """All that is held of a client: its claims by key, and the messages counted by day; no day counts none."""

    claims: dict[str, Record] = field(default_factory=dict)
    used: dict[date, int] = field(default_factory=dict)


class Records(Protocol):
    """A store's data. Every lease that has not been ended here counts as running: the tests' leases are long."""

    def of(self, client: str, keys: Iterable[str], days: Iterable[date]) -> Holdings:
        """What is held of a client, as far as these keys and days go."""

    def end_lease(self, client: str, key: str, until: int) -> None:
        """Let the lease on a pending claim be over: ``ENDED`` or ``AHEAD``."""

    def forget(self, client: str) -> None:
        """Remove all that is held of a client, as if the store had lost its data."""


class RedisRecords:
    """On the Redis server at ``url``."""

    def __init__(self, url: str) -> None:
        self._server = redis.Redis.from_url(url)
        self._keys = Keys("quota")

    def of(self, client: str, keys: Iterable[str], days: Iterable[date]) -> Holdings:
        keys, days = list(keys), list(days)
        pipe = self._server.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(self._keys.claim(client, key))
        for day in days:
            pipe.get(self._keys.counter(client, day))
        replies: list[Any] = pipe.execute()
        claims = {
            key: Record(
                fingerprint=fields[b"f"],
                token=fields[b"t"].decode() if b"t" in fields else None,
                is_leased=ENDED < int(fields.get(b"l", 0)) < AHEAD,
                is_armed=b"a" in fields,
                charged_on=fields[b"d"].decode() if b"d" in fields else None,
                answer=fields.get(b"r"),
            )
            for key, fields in zip(keys, replies, strict=False)
            if fields
        }
        used = zip(days, replies[len(keys) :], strict=True)
        return Holdings(claims, {day: int(count) for day, count in used if count and int(count)})

    def end_lease(self, client: str, key: str, until: int) -> None:
        record = self._keys.claim(client, key)
        if self._server.hexists(record, "l"):
            self._server.hset(record, "l", str(until))

    def forget(self, client: str) -> None:
        # No name of these tests holds a character that Redis's patterns know.
        found = list(self._server.scan_iter(match=f"*{{{client}}}*", count=10_000))
        if found:
            self._server.delete(*found)

    def close(self) -> None:
        self._server.close()


class EmbeddedRecords:
    """In the embedded file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, timeout=30, isolation_level=None)
        # The gateway's own commits are durable; ours need not be.
        self._file.execute("PRAGMA synchronous = OFF")

    def of(self, client: str, keys: Iterable[str], days: Iterable[date]) -> Holdings:
        claims = self._file.execute(
            "SELECT key, fingerprint, token, leased_until > ? AND leased_until < ?, armed, charged_on, answer"
            " FROM claims WHERE client = ?",
            (ENDED, AHEAD, client),
        )
        used = self._file.execute("SELECT day, used FROM quotas WHERE client = ? AND used <> 0", (client,))
        return Holdings(
            {
                key: Record(fingerprint, token, bool(leased), bool(armed), charged_on, answer)
                for key, fingerprint, token, leased, armed, charged_on, answer in claims.fetchall()
            },
            {date.fromisoformat(day): count for day, count in used.fetchall()},
        )

    def end_lease(self, client: str, key: str, until: int) -> None:
        self._file.execute(
            "UPDATE claims SET leased_until = ? WHERE client = ? AND key = ? AND leased_until > ?",
            (until, client, key, ENDED),
        )

    def forget(self, client: str) -> None:
        for table in ("claims", "quotas", "reservations"):
            self._file.execute(f"DELETE FROM {table} WHERE client = ?", (client,))  # noqa: S608 - our own words

    def close(self) -> None:
        self._file.close()
