"""Which numbers are known to wait, however the file changes between two looks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.embedded import schema
from gateway.spool.numbers import _FEW, _MOST_READ_AT_ONCE, WaitingNumbers


class File:
    """A file with the tables of a spool, in which single rows come and go."""

    def __init__(self, path: Path) -> None:
        self.cursor = sqlite3.connect(path, isolation_level=None).cursor()
        schema.upgrade(self.cursor)

    def store(self, *numbers: str) -> None:
        for number in numbers:
            self.cursor.execute(
                "INSERT INTO messages (tracking_id, body, created_at, expires_at)"
                " VALUES (hex(randomblob(16)), ?, 0, 0)",
                (orjson.dumps({"to": number}),),
            )

    def remove_first(self, count: int) -> None:
        self.cursor.execute(
            "DELETE FROM messages WHERE position IN (SELECT position FROM messages ORDER BY position LIMIT ?)",
            (count,),
        )


def waits(numbers: WaitingNumbers, number: str, cursor: sqlite3.Cursor) -> bool:
    """Whether it is said to wait; how many wait is held to the file itself."""
    messages, found = numbers.look_for(number, cursor)
    assert cursor.execute("SELECT count(*) FROM messages").fetchone() == (messages,)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    found = File(tmp_path / "spool.db")
    yield found
    found.cursor.connection.close()


def test_a_number_waits_from_its_first_message_to_its_last(file: File) -> None:
    numbers = WaitingNumbers()
    assert not waits(numbers, "a", file.cursor)
    file.store("a", "b", "a", "c")
    assert [waits(numbers, number, file.cursor) for number in "abcd"] == [True, True, True, False]
    file.remove_first(2)
    assert [waits(numbers, number, file.cursor) for number in "abc"] == [True, False, True]
    file.remove_first(1)
    assert [waits(numbers, number, file.cursor) for number in "abc"] == [False, False, True]
    file.store("b")
    assert [waits(numbers, number, file.cursor) for number in "abc"] == [False, True, True]
    file.remove_first(2)
    assert not any(waits(numbers, number, file.cursor) for number in "abc")


def test_what_is_not_read_yet_may_be_any_number(file: File) -> None:
    """After a start with a large backlog; it is read with a few looks, none of which takes long."""
    file.cursor.execute("BEGIN")
    file.store(*(f"{number}" for number in range(2 * _MOST_READ_AT_ONCE + 1)))
    file.cursor.execute("COMMIT")
    numbers = WaitingNumbers()
    assert [waits(numbers, "stranger", file.cursor) for _ in range(3)] == [True, True, False]
    assert waits(numbers, "0", file.cursor)


def test_numbers_that_have_left_are_forgotten(file: File) -> None:
    """A spool that is never quite empty takes no more memory from day to day."""
    numbers = WaitingNumbers()
    most = 0
    file.cursor.execute("BEGIN")
    for day in range(20):
        file.store(*(f"{day}-{number}" for number in range(400)))
        waits(numbers, "stranger", file.cursor)
        file.remove_first(390)
        assert waits(numbers, f"{day}-399", file.cursor)
        most = max(most, len(numbers))
    assert most <= _FEW + 2 * 800
    assert not waits(numbers, "0-0", file.cursor)


def test_a_file_in_the_place_of_a_lost_one_is_read_anew(file: File, tmp_path: Path) -> None:
    """Its positions begin again."""
    numbers = WaitingNumbers()
    file.store("a", "b", "c")
    assert waits(numbers, "c", file.cursor)
    other = File(tmp_path / "other.db")
    other.store("d")
    assert [waits(numbers, number, other.cursor) for number in "acd"] == [False, False, True]
    other.cursor.connection.close()


def test_a_body_that_the_disk_has_spoilt_is_to_nobody(file: File) -> None:
    """Sends to all numbers look here, and must not fail by it."""
    numbers = WaitingNumbers()
    file.store("a", "b")
    file.cursor.execute("UPDATE messages SET body = X'7B' WHERE position = 1")
    assert [waits(numbers, number, file.cursor) for number in "ab"] == [False, True]
