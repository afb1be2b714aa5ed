"""The steps of a claim, each part of one transaction. A step with a token that is not the record's changes nothing."""

# ruff: noqa: S608 - what stands in braces is a constant of this module

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date

from gateway.embedded import quotas
from gateway.embedded.schema import now_ms
from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, InProgress, OtherPayload, QuotaExceeded

# What the record of a refusal takes besides the packed answer, about (docs/sizing.md).
_RECORD_BYTES = 200

_HELD = "client = ? AND key = ? AND token = ? AND expires_at > ?"


@dataclass(frozen=True, slots=True)
class Answered:
    """The key has its answer already, packed."""

    packed: bytes


def begin(
    cursor: sqlite3.Cursor, claim: Claim, ttl_ms: int, lease_ms: int
) -> Begun | Answered | InProgress | OtherPayload:
    """Take the claim if it is free, or if its lease is over."""
    now = now_ms()
    record = (claim.client, claim.key, claim.fingerprint, claim.token, now + lease_ms, now + ttl_ms)
    insert = (
        "INTO claims (client, key, fingerprint, token, leased_until, armed, expires_at)"
        " VALUES (?, ?, ?, ?, ?, 0, ?)"
    )
    if cursor.execute(f"INSERT {insert} ON CONFLICT DO NOTHING", record).rowcount == 1:
        return Begun()
    fingerprint, token, leased_until, armed, packed, expires_at = cursor.execute(
        "SELECT fingerprint, token, leased_until, armed, answer, expires_at FROM claims WHERE client = ? AND key = ?",
        (claim.client, claim.key),
    ).fetchone()
    if expires_at <= now:
        cursor.execute(f"INSERT OR REPLACE {insert}", record)
        return Begun()
    if fingerprint != claim.fingerprint:
        return OtherPayload.after(None if packed is None else Answer.unpack(packed, ""))
    if packed is not None:
        return Answered(packed)
    # With the caller's own token the step was tried twice, and nobody waits for themselves. More than a lease is left
    # when the clock was set back, and the lease is over.
    if 0 < leased_until - now <= lease_ms and token != claim.token:
        return InProgress(leased_until - now)
    cursor.execute(
        "UPDATE claims SET token = ?, leased_until = ?, expires_at = ? WHERE client = ? AND key = ?",
        (claim.token, now + lease_ms, now + ttl_ms, claim.client, claim.key),
    )
    return Begun(armed=bool(armed))


def arm(cursor: sqlite3.Cursor, claim: Claim) -> bool:
    """Note that the message may be published from now on; False when the claim is lost."""
    return cursor.execute(f"UPDATE claims SET armed = 1 WHERE {_HELD}", _held(claim)).rowcount == 1


def take(
    cursor: sqlite3.Cursor, claim: Claim, client: Client, day: date, token: str
) -> Reservation | QuotaExceeded | None:
    """Charge the claim unless it is charged already, and arm it; None when it is lost."""
    found = cursor.execute(f"SELECT armed, charged_on FROM claims WHERE {_HELD}", _held(claim)).fetchone()
    if found is None:
        return None
    armed, charged_on = found
    if charged_on is not None:
        cursor.execute(f"UPDATE claims SET armed = 1 WHERE {_HELD}", _held(claim))
        charged_day = date.fromisoformat(charged_on)
        used = quotas.used(cursor, client.name, charged_day)
        return Reservation(client.name, charged_day, client.daily_quota, used, token)
    # Armed and not charged: an earlier request published without the quota. Its message may be on the queue, so it is
    # counted whatever the limit.
    counted = quotas.count(cursor, client.name, day, None if armed else client.daily_quota)
    if isinstance(counted, QuotaExceeded):
        return counted
    cursor.execute(
        f"UPDATE claims SET armed = 1, charged_on = ? WHERE {_HELD}", (day.isoformat(), *_held(claim))
    )
    return Reservation(client.name, day, client.daily_quota, counted, token)


def complete(
    cursor: sqlite3.Cursor, claim: Claim, packed: bytes, ttl_ms: int, max_refusal_bytes: int | None = None
) -> bool:
    """Keep the answer and drop the rest; False when the claim is lost.

    With ``max_refusal_bytes`` the answer refuses: what is charged is given back, and where so many bytes of the
    client's refusals are kept already the claim is forgotten instead.
    """
    if max_refusal_bytes is not None:
        if not _give_back(cursor, claim):
            return False
        if not _count_refusal(cursor, claim.client, len(packed), max_refusal_bytes, ttl_ms):
            return _forget(cursor, claim)
    return (
        cursor.execute(
            "UPDATE claims SET answer = ?, token = NULL, leased_until = 0, armed = 0, charged_on = NULL, expires_at = ?"
            f" WHERE {_HELD}",
            (packed, now_ms() + ttl_ms, *_held(claim)),
        ).rowcount
        == 1
    )


def release(cursor: sqlite3.Cursor, claim: Claim) -> bool:
    """Forget the claim, and give back what was taken under it; False when the claim is lost."""
    return _give_back(cursor, claim) and _forget(cursor, claim)


def suspend(cursor: sqlite3.Cursor, claim: Claim) -> bool:
    """End the lease, what is charged and armed stays so; False when the claim is lost."""
    return cursor.execute(f"UPDATE claims SET leased_until = 0 WHERE {_HELD}", _held(claim)).rowcount == 1


def _give_back(cursor: sqlite3.Cursor, claim: Claim) -> bool:
    """Give back what is charged under the claim, to the day it was taken from; False when the claim is lost."""
    found = cursor.execute(f"SELECT charged_on FROM claims WHERE {_HELD}", _held(claim)).fetchone()
    if found is None:
        return False
    if found[0] is not None:
        quotas.uncount(cursor, claim.client, date.fromisoformat(found[0]))
    return True


def _forget(cursor: sqlite3.Cursor, claim: Claim) -> bool:
    return cursor.execute(f"DELETE FROM claims WHERE {_HELD}", _held(claim)).rowcount == 1


def _count_refusal(
    cursor: sqlite3.Cursor, client: str, answer_bytes: int, most_bytes: int, period_ms: int
) -> bool:
    """Count what is kept of the client's refusals in this period; False, and nothing counted, above the most."""
    counted = cursor.execute(
        "INSERT INTO refusals (client, period, bytes) SELECT :client, :period, :bytes WHERE :bytes <= :most"
        " ON CONFLICT DO UPDATE SET period = excluded.period,"
        " bytes = excluded.bytes + iif(period = excluded.period, bytes, 0)"
        " WHERE period <> excluded.period OR bytes + excluded.bytes <= :most",
        {
            "client": client,
            "period": now_ms() // period_ms,
            "bytes": answer_bytes + _RECORD_BYTES,
            "most": most_bytes,
        },
    )
    return counted.rowcount == 1


def _held(claim: Claim) -> tuple[str, str, str, int]:
    return claim.client, claim.key, claim.token, now_ms()
