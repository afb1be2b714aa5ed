"""The link to one server: when it connects, which calls wait, and what it says when it fails. The server is played."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.redis import link as link_module
from gateway.redis.address import Address
from gateway.redis.link import Link, NotSent, Place
from tests.support.redis_peer import HOST, listening, ok, silence
from tests.support.waiting import eventually

SOON = 30.0


@asynccontextmanager
async def linked(
    place: Place | str, call_seconds: float = SOON, told: list[bool] | None = None
) -> AsyncIterator[Link]:
    """A link that has begun to connect, and is closed again."""
    address = Address.of(place) if isinstance(place, str) else place
    link = Link(address, call_seconds, (told if told is not None else []).append)
    link.start()
    try:
        yield link
    finally:
        await link.close()


async def recovered(link: Link) -> None:
    """Wait until it is connected."""
    async with asyncio.timeout(SOON):
        while True:
            with suppress(NotSent):
                return await link.ping()
            await asyncio.sleep(0.01)


async def test_calls_wait_for_the_first_attempt() -> None:
    """And leave together as soon as it has succeeded."""
    async with listening(ok) as peer, linked(peer.url) as link:
        calls = [link.execute("SET", f"{n}", "x") for n in range(10)]
        assert peer.commands == []
        assert await asyncio.gather(*calls) == [b"OK"] * 10
        assert [command[1] for command in peer.commands[-10:]] == [b"%d" % n for n in range(10)]
        assert peer.connections == 1


async def test_while_it_is_known_to_be_down_calls_fail_at_once() -> None:
    """With the reason, which the log has once, however often it is tried again."""
    async with linked(f"redis://{HOST}:1") as link:
        with pytest.raises(NotSent, match=f"{HOST}:1"):
            await link.execute("PING")
        # Nobody awaits it: it is refused before anything is waited for.
        with pytest.raises(NotSent, match=f"{HOST}:1"):
            link.execute("PING")


async def test_it_tries_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With pauses in between, until there is a server; each new reason is logged."""
    # The longest is long: an attempt that lasts for longer has been a connection, of which it is told that it was lost.
    monkeypatch.setattr(link_module, "_PAUSE_SECONDS", (0.01, 5.0))
    told: list[bool] = []
    caplog.set_level(logging.INFO)
    reject = True

    async def answer(_: list[bytes]) -> bytes | None:
        return None if reject else b"+OK\r\n"

    async with listening(answer) as peer, linked(peer.url, told=told) as link:
        await eventually(lambda: peer.connections > 5)
        assert told == []
        reject = False
        await recovered(link)
        assert told == [True]
    assert told == [True, False]
    messages = [record.getMessage() for record in caplog.records if record.name == "gateway.redis.link"]
    *failures, recovery = messages
    assert failures
    # Each reason once: a connection that is dropped may read as closed or as reset.
    assert len(failures) == len(set(failures))
    assert all(failure.startswith(f"Redis at {HOST}:{peer.port}: ") for failure in failures)
    assert recovery == f"Redis at {HOST}:{peer.port}: connected"


async def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that lost one server do not all come back at the same moment."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds >= 0.05:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    async with linked(f"redis://{HOST}:1"):
        async with asyncio.timeout(SOON):
            while len(pauses) < 30:
                await sleep(0.01)
    ceilings = [min(5.0, 0.1 * 2.0 ** min(n, 10)) for n in range(30)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, ceilings, strict=False))
    assert len(set(pauses[10:30])) > 10


async def test_every_attempt_looks_for_the_server_anew() -> None:
    """The primary may be another one by then."""
    async with listening(ok) as first, listening(ok) as second:

        class Moving:
            def __init__(self) -> None:
                self.found = [first.url, second.url]

            async def find(self) -> Address:
                return Address.of(self.found.pop(0))

            def without_secret(self, text: str) -> str:
                return text

        async with linked(Moving()) as link:
            await link.ping()
            assert (first.connections, second.connections) == (1, 0)
            first.cut()
            await eventually(lambda: second.connections == 1)
            await recovered(link)


async def test_where_the_server_cannot_be_found_the_reason_is_told() -> None:
    """In the words of whoever looked for it, without passwords."""

    class Nowhere:
        async def find(self) -> Address:
            raise Disconnected("nobody knows; is it hunter2?")

        def without_secret(self, text: str) -> str:
            return text.replace("hunter2", "…")

    async with linked(Nowhere()) as link:
        with pytest.raises(NotSent, match=r"^nobody knows; is it …\?$"):
            await link.ping()


async def test_a_replica_is_no_server() -> None:
    """It is asked to take a write before anything is sent there."""

    async def answer(command: list[bytes]) -> bytes:
        return b"-READONLY You can't write\r\n" if command[0] == b"DEL" else b"+OK\r\n"

    async with listening(answer) as peer, linked(peer.url) as link:
        call = link.execute("SET", "x", "y")
        with pytest.raises(NotSent, match=r"is a replica, .* the Sentinels'"):
            await call
        assert b"SET" not in peer.names()


async def test_a_primary_that_becomes_a_replica_is_left() -> None:
    """The call that finds it out gets the server's own error."""
    told: list[bool] = []

    async def answer(command: list[bytes]) -> bytes:
        return b"-READONLY You can't write\r\n" if command[0] == b"SET" else b"+OK\r\n"

    async with listening(answer) as peer, linked(peer.url, told=told) as link:
        await link.ping()
        with pytest.raises(ReadOnlyError):
            await link.execute("SET", "x", "y")
        await eventually(lambda: told[:2] == [True, False])
        await recovered(link)
        assert peer.connections == 2


@pytest.mark.parametrize("refusal", [b"-MISCONF no disk\r\n", b"-OOM no memory\r\n", b"-MOVED 1 other:1\r\n"])
async def test_a_server_that_takes_no_writes_may_still_be_read(refusal: bytes) -> None:
    """It is connected to all the same; ``ping`` says what is the matter."""

    async def answer(command: list[bytes]) -> bytes:
        return refusal if command[0] == b"DEL" else b"+OK\r\n"

    async with listening(answer) as peer, linked(peer.url) as link:
        assert await link.execute("GET", "x") == b"OK"
        with pytest.raises(ResponseError):
            await link.ping()


async def test_a_server_that_hangs_is_given_up() -> None:
    """After two calls' time of silence, of which each call waits one; nothing of it reaches other calls."""
    told: list[bool] = []
    async with listening(ok) as peer, linked(peer.url, 0.2, told) as link:
        await link.ping()
        peer.answer = silence
        with pytest.raises(TimeoutError):
            await link.ping()
        await eventually(lambda: told == [True, False])
        peer.answer = ok
        await recovered(link)
        assert await link.execute("GET", "x") == b"OK"


async def test_a_silent_connection_without_calls_is_kept() -> None:
    """Nobody asked, so no reply is missing."""
    told: list[bool] = []
    async with listening(ok) as peer, linked(peer.url, 0.05, told) as link:
        await recovered(link)
        await asyncio.sleep(0.5)
        assert told == [True]
        assert peer.connections == 1


async def test_what_is_given_up_before_there_is_a_connection_is_never_sent() -> None:
    """Neither after its time nor when it is cancelled."""
    go_on = asyncio.Event()

    async def answer(_: list[bytes]) -> bytes:
        await go_on.wait()
        return b"+OK\r\n"

    async with listening(answer) as peer, linked(peer.url, 0.1) as link:
        late, cancelled = link.execute("LATE"), link.execute("CANCELLED")
        cancelled.cancel()
        with pytest.raises(TimeoutError):
            await late
        go_on.set()
        await recovered(link)
        assert {b"LATE", b"CANCELLED"}.isdisjoint(peer.names())


async def test_what_accepts_connections_and_says_nothing_is_no_server() -> None:
    """Calls are bounded, and the reason names the time and what to look at."""
    with socket.create_server((HOST, 0)) as silent:
        url = f"redis://{HOST}:{silent.getsockname()[1]}"
        async with linked(url) as link:
            with pytest.raises(NotSent, match="no answer to the connection attempt within 1 s: see whether"):
                await link.ping()
        async with linked(url, 0.1) as link:
            with pytest.raises(TimeoutError):
                await link.ping()


async def test_a_server_that_quotes_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """Redis quotes the arguments of a command that it does not know; AUTH may be one."""

    async def complain(_: list[bytes]) -> bytes:
        return b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n"

    async with listening(complain) as peer, linked(f"redis://:hunter2@{HOST}:{peer.port}") as link:
        with pytest.raises(NotSent, match="unknown command") as raised:
            await link.ping()
    assert "hunter2" not in str(raised.value) + caplog.text


async def test_closing() -> None:
    """Whatever is under way ends, nothing is left open, and closing again is harmless."""
    async with listening(ok) as peer:
        async with linked(peer.url) as link:
            await link.ping()
            peer.answer = silence
            hanging = link.execute("HANG")
            await eventually(lambda: b"HANG" in peer.names())
        with pytest.raises(Disconnected, match="closed by this gateway") as raised:
            await hanging
        assert not isinstance(raised.value, NotSent)
        await peer.closed()
        await link.close()
        with pytest.raises(NotSent, match="closed by this gateway"):
            await link.ping()
    never_started = Link(Address.of(peer.url), SOON, lambda _: None)
    with pytest.raises(NotSent, match="not started"):
        await never_started.ping()
    await never_started.close()
