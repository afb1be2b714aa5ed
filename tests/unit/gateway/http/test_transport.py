"""What a turn of the loop holds back, and what lets it go before its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.http import transport as module
from gateway.http.transport import Outgoing, Turn


class Transport:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.is_gone = False
        self.unwritten = 0

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def is_closing(self) -> bool:
        return self.is_gone

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return name, default


def outgoing(turn: Turn, transport: Transport) -> Outgoing:
    made: Any = transport
    return Outgoing(made, turn)


async def test_what_a_turn_holds_back_leaves_at_its_end() -> None:
    """Of all connections, and of each in one write."""
    turn, first, second = Turn(asyncio.get_running_loop()), Transport(), Transport()
    one, other = outgoing(turn, first), outgoing(turn, second)
    one.hold(b"a")
    other.hold(b"b")
    one.hold(b"c")
    assert first.done == second.done == []
    await asyncio.sleep(0)
    assert (first.done, second.done) == ([b"ac"], [b"b"])
    one.hold(b"d")
    await asyncio.sleep(0)
    assert first.done == [b"ac", b"d"]


async def test_what_begins_after_it_finds_it_written() -> None:
    """A task that an answer sets off, such as the next request of the connection, runs behind it."""
    transport = Transport()
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.hold(b"a")
    asyncio.get_running_loop().call_soon(transport.done.append, "next")
    await asyncio.sleep(0)
    assert transport.done == [b"a", "next"]


@pytest.mark.parametrize(
    ("call", "done"),
    [
        (lambda one: one.write(b"b"), [b"a", b"b"]),
        (lambda one: one.close(), [b"a", "close"]),
        (lambda one: one.flush(), [b"a"]),
        (lambda one: one.abort(), ["abort"]),
    ],
    ids=["write", "close", "flush", "abort"],
)
async def test_the_order_of_the_calls_is_that_of_the_bytes(call: Any, done: list[Any]) -> None:
    """Nothing overtakes what is held back; who aborts wants nothing of it written. And nothing is written twice."""
    transport = Transport()
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.hold(b"a")
    call(one)
    assert transport.done == done
    await asyncio.sleep(0)
    assert transport.done == done


async def test_nothing_is_written_to_a_connection_that_is_gone() -> None:
    """A loop may refuse that by an exception, and others wait for their answers in the same turn."""
    turn, gone, there = Turn(asyncio.get_running_loop()), Transport(), Transport()
    outgoing(turn, gone).hold(b"a")
    outgoing(turn, there).hold(b"b")
    gone.is_gone = True
    await asyncio.sleep(0)
    assert (gone.done, there.done) == ([], [b"b"])


@pytest.mark.parametrize(
    ("unwritten", "done"), [(1, ["close", "abort"]), (0, ["close"])], ids=["some", "none"]
)
async def test_who_takes_nothing_after_the_end_is_dropped(
    monkeypatch: pytest.MonkeyPatch, unwritten: int, done: list[str]
) -> None:
    """A transport that closes waits for its peer to take the rest, for ever if it must."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    transport = Transport()
    transport.unwritten = unwritten
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.close()
    await asyncio.sleep(0.05)
    assert transport.done == done


async def test_a_connection_that_has_ended_is_not_dropped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer must not hold it in memory."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    transport = Transport()
    transport.unwritten = 1
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.close()
    one.lost()
    await asyncio.sleep(0.05)
    assert transport.done == ["close"]


async def test_what_ends_is_not_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvicorn does to a connection that is lost, when nobody will cancel a timer any more."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    transport = Transport()
    transport.unwritten = 1
    transport.is_gone = True
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.lost()
    one.close()
    await asyncio.sleep(0.05)
    assert transport.done == []


async def test_a_transport_that_fails_keeps_no_others_answers() -> None:
    """It is dropped; what its neighbours hold back leaves all the same, now and in later turns."""

    class Failing(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError("closed")

    turn, failing, there = Turn(asyncio.get_running_loop()), Failing(), Transport()
    one, other = outgoing(turn, failing), outgoing(turn, there)
    for answer in (b"a", b"b"):
        one.hold(answer)
        other.hold(answer)
        await asyncio.sleep(0)
    assert failing.done == ["abort", "abort"]
    assert there.done == [b"a", b"b"]


async def test_everything_else_is_the_transports() -> None:
    """Reading, what is known of the connection, and whether it ends."""
    transport = Transport()
    one = outgoing(Turn(asyncio.get_running_loop()), transport)
    one.pause_reading()
    one.resume_reading()
    assert transport.done == ["pause", "resume"]
    assert one.get_extra_info("peername", 1) == ("peername", 1)
    assert not one.is_closing()
    transport.is_gone = True
    assert one.is_closing()
