"""The connection to the broker: what it tells of its state, and how frames leave. The broker is played here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
from aiormq import spec
from pamqp.frame import marshal

from gateway.rabbitmq.session import Session
from tests.support.amqp_peer import Peer


@pytest.fixture
async def session(peer: Peer) -> AsyncIterator[Session]:
    session = Session(peer.url)
    await session.connect()
    yield session
    await session.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_its_state_is_what_aiormq_says(session: Session, peer: Peer) -> None:
    """Asked differently, for it is asked of every message."""
    assert (session.is_alive, session.is_opened, session.is_unblocked) == (True, True, True)
    peer.say(spec.Connection.Blocked(reason="low on memory"), channel=0)
    await eventually(lambda: not session.is_unblocked)
    assert session.is_alive
    peer.say(spec.Connection.Unblocked(), channel=0)
    await eventually(lambda: session.is_unblocked)
    peer.cut()
    await eventually(lambda: not session.is_alive)
    assert not session.is_opened


async def test_a_connection_that_the_broker_closes_is_not_alive(session: Session, peer: Peer) -> None:
    """From the moment that it is told, even where the socket is still open."""
    told: list[bool] = []
    session.closing.add_done_callback(lambda _: told.append(session.is_alive))
    peer.say(spec.Connection.Close(320, "CONNECTION_FORCED - by an operator", 0, 0), channel=0)
    await eventually(lambda: bool(told))
    assert told == [False]
    assert not session.is_alive


async def test_what_is_written_in_one_iteration_leaves_in_one_write(
    session: Session, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the calls; what is written later, leaves later."""
    writer = session._socket.writer
    assert writer is not None
    written: list[bytes] = []
    write = writer.write

    def write_and_note(frames: bytes) -> None:
        written.append(frames)
        write(frames)

    monkeypatch.setattr(writer, "write", write_and_note)
    opened = [marshal(spec.Channel.Open(), number) for number in (11, 12, 13)]
    session.write(opened[0])
    session.write(opened[1])
    await asyncio.sleep(0)
    session.write(opened[2])
    await peer.got("Channel.Open", 3)
    assert written == [opened[0] + opened[1], opened[2]]
    assert [number for number, frame in peer.received if frame.name == "Channel.Open"] == [11, 12, 13]


async def test_an_aborted_connection_is_over_at_once(session: Session, peer: Peer) -> None:
    """Nothing is said to the peer, nothing is written to it any more, and whoever waits is told."""
    opening = asyncio.create_task(session.channel())
    await asyncio.sleep(0)
    session.abort()
    session.write(b"too late")
    async with asyncio.timeout(20):
        with pytest.raises((ConnectionError, asyncio.CancelledError)):
            await opening
    assert not session.is_alive
    assert "Connection.Close" not in peer.names()


def test_aborting_what_was_never_connected_is_harmless() -> None:
    """A connection attempt may be given up before there is a socket."""

    async def abort() -> None:
        Session("amqp://guest:guest@127.0.0.1:1/").abort()

    asyncio.run(abort())


async def test_amqps_is_spoken_with_tls() -> None:
    """The first bytes are a TLS handshake, not AMQP."""
    first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.set_result(await reader.readexactly(3))
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((OSError, ssl.SSLError)):
            await Session(f"amqps://guest:guest@127.0.0.1:{port}/?no_verify_ssl=1").connect()
    assert first.result()[:2] == b"\x16\x03"


async def test_a_connection_that_is_lost_before_it_has_a_channel_is_no_bug(
    session: Session, peer: Peer
) -> None:
    """It would be logged as one: aiormq raises a ``RuntimeError`` for it."""
    peer.cut()
    await eventually(lambda: session.is_closed)
    with pytest.raises(ConnectionError, match="lost"):
        await session.channel()
