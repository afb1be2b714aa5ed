"""The steps of a quota, each part of one transaction: messages counted by client and UTC day."""

from __future__ import annotations

import sqlite3
from datetime import date

from gateway.embedded.schema import RESERVATION_SECONDS, now_ms
from pipeline.facts import Client, Reservation
from pipeline.ports import QuotaExceeded

_NO_LIMIT = 2**63 - 1


def take(cursor: sqlite3.Cursor, client: Client, day: date, token: str) -> Reservation | QuotaExceeded:
    """Take one message for a request without a claim.

    What the token took before is not taken again; a token that was given back before takes nothing.
    """
    counted = count(cursor, client.name, day, client.daily_quota)
    if not isinstance(counted, QuotaExceeded):
        if _note(cursor, client.name, token, taken=True):
            return Reservation(client.name, day, client.daily_quota, counted, token)
        uncount(cursor, client.name, day)
    so_far = used(cursor, client.name, day)
    (taken,) = cursor.execute(
        "SELECT coalesce(sum(taken), 0) FROM reservations WHERE token = ? AND client = ?",
        (token, client.name),
    ).fetchone()
    if taken:
        return Reservation(client.name, day, client.daily_quota, so_far, token)
    return QuotaExceeded(so_far)


def give_back(cursor: sqlite3.Cursor, client: str, day: date, token: str) -> None:
    """Give back what the token took, at most once; a ``take`` that arrives after this takes nothing."""
    if _note(cursor, client, token, taken=False):
        return
    returned = cursor.execute(
        "UPDATE reservations SET taken = 0 WHERE token = ? AND client = ? AND taken = 1", (token, client)
    )
    if returned.rowcount:
        uncount(cursor, client, day)


def _note(cursor: sqlite3.Cursor, client: str, token: str, *, taken: bool) -> bool:
    """Note what became of a token that is new; False when it is known already."""
    noted = cursor.execute(
        "INSERT INTO reservations (token, client, taken, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (token, client, taken, now_ms() + RESERVATION_SECONDS * 1000),
    )
    return noted.rowcount == 1


def count(cursor: sqlite3.Cursor, client: str, day: date, limit: int | None) -> int | QuotaExceeded:
    """Count one message if the limit allows it: how many there are now. Over the limit nothing is written."""
    if limit is None:
        limit = _NO_LIMIT
    if limit > 0:
        counted: list[tuple[int]] = cursor.execute(
            "INSERT INTO quotas (day, client, used) VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET used = used + 1 WHERE used < ? RETURNING used",
            (day.isoformat(), client, limit),
        ).fetchall()
        if counted:
            return counted[0][0]
    return QuotaExceeded(used(cursor, client, day))


def uncount(cursor: sqlite3.Cursor, client: str, day: date) -> None:
    """Count one message less."""
    cursor.execute(
        "UPDATE quotas SET used = used - 1 WHERE day = ? AND client = ? AND used > 0",
        (day.isoformat(), client),
    )


def used(cursor: sqlite3.Cursor, client: str, day: date) -> int:
    """Messages counted on that day."""
    found: tuple[int] | None = cursor.execute(
        "SELECT used FROM quotas WHERE day = ? AND client = ?", (day.isoformat(), client)
    ).fetchone()
    return found[0] if found else 0
