"""The steps of a quota, each on real tables: what is counted, what is given back, and what is noted of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from gateway.embedded import quotas, schema
from pipeline.facts import Client, Reservation
from pipeline.ports import QuotaExceeded

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    schema.upgrade(connection.cursor())
    yield connection.cursor()
    connection.close()


def used(cursor: sqlite3.Cursor, client: str = "acme", day: date = TODAY) -> int:
    return quotas.used(cursor, client, day)


def test_exactly_the_limit_is_counted(cursor: sqlite3.Cursor) -> None:
    """Each client and each day for itself; over the limit nothing is written."""
    assert [quotas.count(cursor, "acme", TODAY, 2) for _ in range(4)] == [
        *(1, 2),
        *(QuotaExceeded(2), QuotaExceeded(2)),
    ]
    assert quotas.count(cursor, "other", TODAY, 2) == 1
    assert quotas.count(cursor, "acme", YESTERDAY, 2) == 1
    assert (used(cursor), used(cursor, "other"), used(cursor, day=YESTERDAY)) == (2, 1, 1)


def test_a_limit_of_nothing_and_no_limit(cursor: sqlite3.Cursor) -> None:
    assert quotas.count(cursor, "acme", TODAY, 0) == QuotaExceeded(0)
    assert cursor.execute("SELECT count(*) FROM quotas").fetchone() == (0,)
    assert [quotas.count(cursor, "acme", TODAY, None) for _ in range(3)] == [1, 2, 3]


def test_a_lowered_limit_holds_at_once(cursor: sqlite3.Cursor) -> None:
    for _ in range(5):
        quotas.count(cursor, "acme", TODAY, 10)
    assert quotas.count(cursor, "acme", TODAY, 3) == QuotaExceeded(5)


def test_nothing_is_counted_below_nothing(cursor: sqlite3.Cursor) -> None:
    quotas.count(cursor, "acme", TODAY, 10)
    for _ in range(3):
        quotas.uncount(cursor, "acme", TODAY)
    assert used(cursor) == 0


def test_a_token_takes_once_and_gives_back_once(cursor: sqlite3.Cursor) -> None:
    """However often either is tried, and to the day it was taken from."""
    client = Client("acme", daily_quota=5)
    for _ in range(3):
        assert quotas.take(cursor, client, YESTERDAY, "t") == Reservation("acme", YESTERDAY, 5, 1, "t")
    quotas.take(cursor, client, YESTERDAY, "u")
    for _ in range(3):
        quotas.give_back(cursor, "acme", YESTERDAY, "t")
    assert (used(cursor, day=YESTERDAY), used(cursor)) == (1, 0)


def test_a_take_that_comes_after_its_give_back_takes_nothing(cursor: sqlite3.Cursor) -> None:
    client = Client("acme", daily_quota=5)
    quotas.give_back(cursor, "acme", TODAY, "late")
    assert quotas.take(cursor, client, TODAY, "late") == QuotaExceeded(0)
    assert used(cursor) == 0


def test_what_was_taken_before_the_limit_was_reached_stays_taken(cursor: sqlite3.Cursor) -> None:
    """A take that is tried again with the last message spent is not refused."""
    client = Client("acme", daily_quota=1)
    first = quotas.take(cursor, client, TODAY, "t")
    assert quotas.take(cursor, client, TODAY, "t") == first
    assert quotas.take(cursor, client, TODAY, "u") == QuotaExceeded(1)


def test_a_token_is_remembered_for_as_long_as_it_is_promised(cursor: sqlite3.Cursor) -> None:
    before = schema.now_ms()
    quotas.take(cursor, Client("acme"), TODAY, "t")
    [(expires_at,)] = cursor.execute("SELECT expires_at FROM reservations").fetchall()
    kept_ms = schema.RESERVATION_SECONDS * 1000
    assert before + kept_ms <= expires_at <= schema.now_ms() + kept_ms
