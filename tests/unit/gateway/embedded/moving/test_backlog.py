"""Which messages may be in flight together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from gateway.embedded.moving.backlog import Backlog
from gateway.embedded.outbox import Waiting

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def message(position: int, number: str, created_ms: int = 0, stored_ms: int | None = 0) -> Waiting:
    """One whose times are milliseconds after noon."""
    created_at = NOON + timedelta(milliseconds=created_ms)
    stored_at = None if stored_ms is None else NOON + timedelta(milliseconds=stored_ms)
    body = orjson.dumps({"to": number})
    return Waiting(position, f"id-{position}", body, created_at, created_at + timedelta(hours=1), stored_at)


def backlog(*messages: Waiting) -> Backlog:
    found = Backlog()
    found.add(messages)
    return found


def positions(messages: list[Waiting]) -> list[int]:
    return [message.position for message in messages]


def test_the_first_ones_are_next() -> None:
    """As many as are asked for, and the same ones until they are removed."""
    found = backlog(*(message(position, f"+{position}") for position in range(1, 6)))
    assert positions(found.next(3)) == positions(found.next(3)) == [1, 2, 3]
    found.remove(2)
    assert positions(found.next(3)) == [1, 3, 4]
    assert (len(found), found.last) == (4, 5)


def test_what_repeats_is_passed_over_with_all_that_follow() -> None:
    """To each number the first, in order; the second one's turn comes when the first is gone."""
    found = backlog(*(message(position, number) for position, number in enumerate("aabbaca", 1)))
    assert positions(found.next(10)) == [1, 3, 6]
    found.remove(1)
    assert positions(found.next(10)) == [2, 3, 6]


@pytest.mark.parametrize(
    ("created_ms", "together"),
    [
        (4, True),  # It came while the first, stored at 5 ms, was still waiting.
        (5, False),  # In the same millisecond: the 202 may have been faster.
        (6, False),
        (-29_000, True),
        (-40_000, False),  # No request lives so long: a clock was set back.
    ],
)
def test_a_second_message_that_did_not_wait_for_the_first_goes_with_it(
    created_ms: int, together: bool
) -> None:
    found = backlog(message(1, "a", 0, 5), message(2, "a", created_ms, 9))
    assert positions(found.next(10)) == ([1, 2] if together else [1])


def test_a_third_must_have_waited_for_neither() -> None:
    """One that overtook a message which waits itself would break the order with that one."""
    first, second = message(1, "a", 0, 5), message(2, "a", 3, 9)
    assert positions(backlog(first, second, message(3, "a", 4, 9)).next(10)) == [1, 2, 3]
    assert positions(backlog(first, second, message(3, "a", 6, 9)).next(10)) == [1, 2]
    waits = message(2, "a", 7, 9)
    assert positions(backlog(first, waits, message(3, "a", 4, 9)).next(10)) == [1]


@pytest.mark.parametrize("set_back_ms", [100, 10_000])
def test_a_clock_that_was_set_back_hides_no_order(set_back_ms: int) -> None:
    """By its times the second came before the first was stored; but it was stored before it, too, by them."""
    first = message(1, "a", 0, 5)
    second = message(2, "a", 20 - set_back_ms, 25 - set_back_ms)
    assert positions(backlog(first, second).next(10)) == [1]
    between = message(2, "b", 20 - set_back_ms, 25 - set_back_ms)
    third = message(3, "a", 30 - set_back_ms, 35 - set_back_ms)
    assert positions(backlog(first, between, third).next(10)) == [1, 2]
    # Those that came after it have their own order, as ever.
    fourth = message(4, "a", 31 - set_back_ms, 35 - set_back_ms)
    found = backlog(first, between, third, fourth)
    found.remove(1)
    assert positions(found.next(10)) == [2, 3, 4]


@pytest.mark.parametrize("which", [1, 2])
def test_a_message_of_an_earlier_release_goes_alone(which: int) -> None:
    """It does not say when it was stored."""
    times = [None if position == which else 5 for position in (1, 2, 3)]
    found = backlog(*(message(position, "a", 0, at) for position, at in enumerate(times, 1)))
    assert positions(found.next(10)) == ([1] if which == 1 else [1, 2])


def test_a_cleared_one_begins_again() -> None:
    found = backlog(message(7, "a"))
    found.clear()
    assert (len(found), found.last, found.next(1)) == (0, 0, [])
    found.add([message(1, "a")])
    assert positions(found.next(1)) == [1]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"1", b"\xff"], ids=repr)
def test_a_body_that_the_disk_has_spoilt_keeps_nothing_waiting(body: bytes) -> None:
    """It is moved like the others: whoever reads the queue has to judge it, and all that follow are good."""
    found = backlog(message(1, "a")._replace(body=body), message(2, "a"), message(3, "b"))
    assert positions(found.next(10)) == [1, 2, 3]
