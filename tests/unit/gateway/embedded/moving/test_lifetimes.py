"""How much of its life a message has left, whatever is done to the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.embedded.moving.lifetimes import Lifetimes
from gateway.embedded.outbox import Waiting

HOUR_MS = 3_600_000
NOON_MS = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
YEARS_MS = 50 * 365 * 24 * HOUR_MS


class Clocks:
    """The one on the wall, which can be set, and the one that nobody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = NOON_MS, 77_000
        monkeypatch.setattr("gateway.embedded.moving.lifetimes.now_ms", lambda: self.wall)
        monkeypatch.setattr("gateway.embedded.moving.lifetimes.steady_ms", lambda: self.steady)

    def pass_ms(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.steady += milliseconds

    def message(self) -> Waiting:
        """One that is created now, for an hour."""
        created_at = datetime.fromtimestamp(self.wall / 1000, UTC)
        return Waiting(1, "id", b"", created_at, created_at + timedelta(hours=1))


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_a_message_lives_as_long_as_it_was_given(clocks: Clocks) -> None:
    lifetimes, message = Lifetimes(), clocks.message()
    assert lifetimes.left_ms(message) == HOUR_MS
    for left in (HOUR_MS // 2, 0, -HOUR_MS // 2):
        clocks.pass_ms(HOUR_MS // 2)
        lifetimes.look()
        assert lifetimes.left_ms(message) == left


@pytest.mark.parametrize("by", [3000, HOUR_MS, YEARS_MS])
def test_a_clock_that_is_set_forward_makes_no_message_older(clocks: Clocks, by: int) -> None:
    """It has waited as long as it has; one that is created later, too; and after the clock is right again."""
    lifetimes, message = Lifetimes(), clocks.message()
    clocks.pass_ms(1000)
    lifetimes.look()
    clocks.pass_ms(100)
    clocks.wall += by
    lifetimes.look()
    later = clocks.message()
    clocks.pass_ms(1000)
    lifetimes.look()
    assert (lifetimes.left_ms(message), lifetimes.left_ms(later)) == (HOUR_MS - 2100, HOUR_MS - 1000)
    clocks.wall -= by
    lifetimes.look()
    clocks.pass_ms(1000)
    assert (lifetimes.left_ms(message), lifetimes.left_ms(later)) == (HOUR_MS - 3100, HOUR_MS)


@pytest.mark.parametrize("by", [3000, HOUR_MS, YEARS_MS])
def test_a_clock_that_is_set_back_gives_no_message_a_longer_life_than_it_was_given(
    clocks: Clocks, by: int
) -> None:
    lifetimes, message = Lifetimes(), clocks.message()
    clocks.wall -= by
    lifetimes.look()
    assert lifetimes.left_ms(message) == HOUR_MS
    later = clocks.message()
    clocks.pass_ms(1000)
    assert lifetimes.left_ms(later) == HOUR_MS - 1000


def test_a_clock_that_is_set_right_in_part_still_makes_no_message_older(clocks: Clocks) -> None:
    lifetimes, message = Lifetimes(), clocks.message()
    clocks.wall += 2 * HOUR_MS
    lifetimes.look()
    clocks.wall -= HOUR_MS
    lifetimes.look()
    assert lifetimes.left_ms(message) == HOUR_MS


def test_a_clock_that_is_slewed_is_believed(clocks: Clocks) -> None:
    """However much it comes to in the end."""
    lifetimes, message = Lifetimes(), clocks.message()
    for _ in range(60):
        clocks.pass_ms(1000)
        clocks.wall += 100
        lifetimes.look()
    assert lifetimes.left_ms(message) == HOUR_MS - 66_000
