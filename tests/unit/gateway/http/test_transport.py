"""What is written at the end of an iteration of the event loop, and what is written before it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.http import transport as module
from gateway.http.transport import BatchingTransport, WriteBatch


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


def batching(batch: WriteBatch, transport: Transport) -> BatchingTransport:
    made: Any = transport
    return BatchingTransport(made, batch)


async def test_the_answers_of_an_iteration_leave_at_its_end() -> None:
    """Of all connections, and of each in one write."""
    batch, first, second = WriteBatch(asyncio.get_running_loop()), Transport(), Transport()
    one, other = batching(batch, first), batching(batch, second)
    one.write_soon(b"a")
    other.write_soon(b"b")
    one.write_soon(b"c")
    assert first.done == second.done == []
    await asyncio.sleep(0)
    assert (first.done, second.done) == ([b"ac"], [b"b"])
    one.write_soon(b"d")
    await asyncio.sleep(0)
    assert first.done == [b"ac", b"d"]


async def test_what_begins_after_it_finds_it_written() -> None:
    """A task that an answer sets off, such as the next request of the connection, runs behind it."""
    transport = Transport()
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.write_soon(b"a")
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
    """Nothing overtakes what waits; an abort drops it. And nothing is written twice."""
    transport = Transport()
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.write_soon(b"a")
    call(one)
    assert transport.done == done
    await asyncio.sleep(0)
    assert transport.done == done


async def test_nothing_is_written_to_a_connection_that_is_gone() -> None:
    """A loop may refuse that by an exception, and others wait for their answers in the same batch."""
    batch, gone, there = WriteBatch(asyncio.get_running_loop()), Transport(), Transport()
    batching(batch, gone).write_soon(b"a")
    batching(batch, there).write_soon(b"b")
    gone.is_gone = True
    await asyncio.sleep(0)
    assert (gone.done, there.done) == ([], [b"b"])


async def test_nothing_is_written_behind_the_end() -> None:
    """Such as the answer of an application whose request was refused while its body arrived."""
    transport = Transport()
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.write(b"refused")
    one.close()
    transport.is_gone = True
    one.write(b"late")
    one.write_soon(b"later")
    await asyncio.sleep(0)
    assert transport.done == [b"refused", "close"]


@pytest.mark.parametrize(
    ("unwritten", "done"), [(1, ["close", "abort"]), (0, ["close"])], ids=["some", "none"]
)
async def test_a_client_that_takes_nothing_after_the_end_is_dropped(
    monkeypatch: pytest.MonkeyPatch, unwritten: int, done: list[str]
) -> None:
    """A transport that closes waits for its peer to take the rest, for ever if it must."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    transport = Transport()
    transport.unwritten = unwritten
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.close()
    await asyncio.sleep(0.05)
    assert transport.done == done


async def test_a_connection_that_has_ended_is_not_dropped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer must not keep it in memory."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    transport = Transport()
    transport.unwritten = 1
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
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
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.lost()
    one.close()
    await asyncio.sleep(0.05)
    assert transport.done == []


async def test_a_transport_that_fails_keeps_no_others_answers() -> None:
    """It is dropped; what its neighbours have to write leaves all the same, now and in later iterations."""

    class Failing(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError("closed")

    batch, failing, there = WriteBatch(asyncio.get_running_loop()), Failing(), Transport()
    one, other = batching(batch, failing), batching(batch, there)
    for answer in (b"a", b"b"):
        one.write_soon(answer)
        other.write_soon(answer)
        await asyncio.sleep(0)
    assert failing.done == ["abort", "abort"]
    assert there.done == [b"a", b"b"]


async def test_everything_else_is_the_transports() -> None:
    """Reading, what is known of the connection, and whether it ends."""
    transport = Transport()
    one = batching(WriteBatch(asyncio.get_running_loop()), transport)
    one.pause_reading()
    one.resume_reading()
    assert transport.done == ["pause", "resume"]
    assert one.get_extra_info("peername", 1) == ("peername", 1)
    assert not one.is_closing()
    transport.is_gone = True
    assert one.is_closing()
