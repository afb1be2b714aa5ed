"""The head of an answer, and its body, in one write."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.one_write import OneWrite


class Recorded:
    """A transport that keeps what is done with it."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")

    def is_closing(self) -> bool:
        return "close" in self.done


@pytest.fixture
def transport() -> Recorded:
    return Recorded()


@pytest.fixture
def one(transport: Recorded) -> OneWrite:
    return OneWrite(cast(asyncio.Transport, transport))


def test_head_and_body_are_one_write(transport: Recorded, one: OneWrite) -> None:
    """Nothing leaves before the body is there."""
    one.write(b"head")
    assert transport.done == []
    one.write(b"body")
    assert transport.done == [b"headbody"]


def test_what_follows_is_written_as_it_comes(transport: Recorded, one: OneWrite) -> None:
    """Of a body in parts the first one takes the head along."""
    for data in (b"head", b"one", b"two"):
        one.write(data)
    assert transport.done == [b"headone", b"two"]


def test_an_empty_body_sends_the_head(transport: Recorded, one: OneWrite) -> None:
    """As the answer to HEAD has it."""
    one.write(b"head")
    one.write(b"")
    assert transport.done == [b"head"]


def test_leave_to_continue_is_given_at_once(transport: Recorded, one: OneWrite) -> None:
    """It is no head: the client waits for it before it sends its body."""
    one.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    one.write(b"head")
    one.write(b"body")
    assert transport.done == [b"HTTP/1.1 100 Continue\r\n\r\n", b"headbody"]


def test_a_head_without_its_body_leaves_with_the_end(transport: Recorded, one: OneWrite) -> None:
    """An application that failed in between has been answered so far."""
    one.write(b"head")
    assert not one.is_closing()
    one.close()
    assert transport.done == [b"head", "close"]
    assert one.is_closing()
