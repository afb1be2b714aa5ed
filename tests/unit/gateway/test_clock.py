"""The clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.clock import SystemClock


def test_it_shows_the_time_in_utc() -> None:
    """Days, resets and time stamps all depend on it being aware and in UTC."""
    before, now, after = datetime.now(UTC), SystemClock().now(), datetime.now(UTC)
    assert before <= now <= after
    assert now.utcoffset() == timedelta(0)
