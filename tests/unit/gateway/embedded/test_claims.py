"""The steps of a claim, each on real tables: who holds it, and that nobody else changes anything."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.embedded import claims, quotas, schema
from gateway.embedded.claims import Answered
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, InProgress, OtherPayload, QuotaExceeded

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
CLIENT = Client("acme", daily_quota=5)
TTL_MS, LEASE_MS = 60_000, 15_000
ROOM = 1_000_000
"""Bytes that refusals may take."""


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    schema.upgrade(connection.cursor())
    yield connection.cursor()
    connection.close()


def claim(payload: bytes = b"x") -> Claim:
    """One more request with the same key."""
    return Claim.on(CLIENT, "key", payload * 32)


Found = Begun | Answered | InProgress | OtherPayload


def begin(cursor: sqlite3.Cursor, one: Claim, ttl_ms: int = TTL_MS, lease_ms: int = LEASE_MS) -> Found:
    return claims.begin(cursor, one, ttl_ms, lease_ms)


def take(cursor: sqlite3.Cursor, one: Claim) -> Reservation | QuotaExceeded | None:
    return claims.take(cursor, one, CLIENT, TODAY, "token")


def test_one_begins_and_others_wait_for_the_lease(cursor: sqlite3.Cursor) -> None:
    """Who tries the same step twice does not wait for itself."""
    first, second = claim(), claim()
    assert begin(cursor, first) == Begun()
    assert begin(cursor, first) == Begun()
    found = begin(cursor, second)
    assert isinstance(found, InProgress)
    assert LEASE_MS - 10_000 < found.milliseconds_left <= LEASE_MS
    assert begin(cursor, claim(b"y")) == OtherPayload("in_progress")


def test_after_the_lease_the_next_resumes(cursor: sqlite3.Cursor) -> None:
    """It learns whether the message may be on its way, and the one before holds nothing any more."""
    first, second, third = claim(), claim(), claim()
    begin(cursor, first, lease_ms=1)
    time.sleep(0.005)
    assert begin(cursor, second, lease_ms=1) == Begun(armed=False)
    assert claims.arm(cursor, second)
    time.sleep(0.005)
    assert begin(cursor, third) == Begun(armed=True)
    assert not claims.arm(cursor, second)


@pytest.mark.parametrize(
    "step",
    [
        claims.arm,
        lambda cursor, one: claims.complete(cursor, one, b"other", TTL_MS, ROOM),
        claims.release,
        claims.suspend,
        lambda cursor, one: take(cursor, one) is not None,
    ],
    ids=["arm", "complete", "release", "suspend", "take"],
)
def test_a_step_with_another_s_token_changes_nothing(
    cursor: sqlite3.Cursor, step: Callable[[sqlite3.Cursor, Claim], bool]
) -> None:
    """And says so; neither does one whose record has expired."""
    holder, stranger, late = claim(), claim(), Claim.on(CLIENT, "late", b"x" * 32)
    begin(cursor, holder)
    take(cursor, holder)
    begin(cursor, late, ttl_ms=0)

    def everything() -> list[list[tuple[object, ...]]]:
        return [
            cursor.execute(query).fetchall() for query in ("SELECT * FROM claims", "SELECT * FROM quotas")
        ]

    before = everything()
    assert not step(cursor, stranger)
    assert not step(cursor, late)
    assert everything() == before
    assert step(cursor, holder)


def test_an_answer_is_replayed_until_it_expires(cursor: sqlite3.Cursor) -> None:
    first = claim()
    begin(cursor, first)
    assert claims.complete(cursor, first, b"v1", 60_000)
    assert begin(cursor, claim()) == Answered(b"v1")
    assert begin(cursor, claim(b"y")) == OtherPayload("accepted")
    assert not claims.arm(cursor, first)
    cursor.execute("UPDATE claims SET expires_at = expires_at - 60000")
    assert begin(cursor, claim(b"y")) == Begun()


def test_a_claim_is_charged_once(cursor: sqlite3.Cursor) -> None:
    """By whoever holds it, on the day on which it was charged first; charging arms it."""
    first, second = claim(), claim()
    begin(cursor, first)
    assert claims.take(cursor, first, CLIENT, YESTERDAY, "a") == Reservation("acme", YESTERDAY, 5, 1, "a")
    assert claims.suspend(cursor, first)
    assert begin(cursor, second) == Begun(armed=True)
    assert claims.take(cursor, second, CLIENT, TODAY, "b") == Reservation("acme", YESTERDAY, 5, 1, "b")
    assert (quotas.used(cursor, "acme", YESTERDAY), quotas.used(cursor, "acme", TODAY)) == (1, 0)


def test_over_the_limit_a_claim_is_neither_charged_nor_armed(cursor: sqlite3.Cursor) -> None:
    """Unless it is armed: its message may be on the queue, and is counted whatever the limit."""
    first, second = claim(), claim()
    for _ in range(5):
        quotas.count(cursor, "acme", TODAY, None)
    begin(cursor, first)
    assert take(cursor, first) == QuotaExceeded(5)
    claims.suspend(cursor, first)
    assert begin(cursor, second) == Begun(armed=False)
    assert claims.arm(cursor, second)
    assert take(cursor, second) == Reservation("acme", TODAY, 5, 6, "token")


@pytest.mark.parametrize(
    ("settle", "left"),
    [
        (claims.release, 0),
        (lambda cursor, one: claims.complete(cursor, one, b"", TTL_MS, ROOM), 0),
        (lambda cursor, one: claims.complete(cursor, one, b"", TTL_MS), 1),
        (claims.suspend, 1),
    ],
    ids=["released", "refused", "accepted", "suspended"],
)
def test_what_is_charged_goes_back_when_nothing_was_published(
    cursor: sqlite3.Cursor, settle: Callable[[sqlite3.Cursor, Claim], bool], left: int
) -> None:
    """Once, and to its day."""
    one = claim()
    begin(cursor, one)
    claims.take(cursor, one, CLIENT, YESTERDAY, "token")
    assert settle(cursor, one)
    settle(cursor, one)
    assert quotas.used(cursor, "acme", YESTERDAY) == left


def test_a_released_claim_is_forgotten(cursor: sqlite3.Cursor) -> None:
    """Another payload may use its key."""
    one = claim()
    begin(cursor, one)
    assert claims.release(cursor, one)
    assert cursor.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert begin(cursor, claim(b"y")) == Begun()


def test_refusals_are_kept_while_there_is_room_for_them(
    cursor: sqlite3.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each period anew, be it a later one or, by a clock that was set back, an earlier one; one row counts them."""
    kept = {}
    for period in (10, 11, 9):
        monkeypatch.setattr(claims, "now_ms", lambda period=period: period * TTL_MS)
        for number in range(5):
            one = Claim.on(CLIENT, f"{period}-{number}", b"x" * 32)
            begin(cursor, one)
            # Two of them and their records are just within it.
            assert claims.complete(cursor, one, b"x" * 100, TTL_MS, 600)
        monkeypatch.undo()
        (kept[period],) = cursor.execute("SELECT count(*) FROM claims").fetchone()
        cursor.execute("DELETE FROM claims")
    assert kept == {10: 2, 11: 2, 9: 2}
    assert cursor.execute("SELECT client, period, bytes FROM refusals").fetchall() == [("acme", 9, 600)]
