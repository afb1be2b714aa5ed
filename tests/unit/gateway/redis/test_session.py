"""What is read from a connection, held to what redis-py reads. The server is played here, on a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from gateway.redis.address import Address
from gateway.redis.link import Link, NotSent
from gateway.redis.session import Session
from tests.support.redis_peer import listening

SOON = 30.0

VALUES = [
    b"$70000\r\n" + b"x" * 70000 + b"\r\n",
    b"+OK\r\n",
    b":-1\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n\r\n\xff\x00\r\n",
    b"*0\r\n",
    b"*3\r\n$5\r\ntaken\r\n:7\r\n*2\r\n$-1\r\n+x\r\n",
    b"*2\r\n:1\r\n-ERR within\r\n",
]
ERRORS = [
    "ERR wrong number of arguments for 'evalsha' command",
    "ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation against a key",
    "NOSCRIPT No matching script. Please use EVAL.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script.",
    "MISCONF Redis is configured to save RDB snapshots",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "EXECABORT Transaction discarded",
    "UNKNOWNCODE and its text",
    "",
]
# redis-py takes these for errors of the connection, and so they end it.
FATAL = [
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "LOADING Redis is loading the dataset in memory",
    "ERR max number of clients reached",
]


# What Redis before 7 makes of a refusal inside a script, and what it is.
IN_SCRIPTS = [
    ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemoryError),
    ("READONLY You can't write against a read only replica.", ReadOnlyError),
]


@asynccontextmanager
async def server(piece: int = 1 << 20) -> AsyncIterator[Address]:
    """One that answers ``SAY x`` with x, CUT by closing, HANG with nothing, and all else with OK."""

    async def answer(command: list[bytes]) -> bytes | None:
        match command:
            case [b"SAY", reply]:
                return reply
            case [b"CUT"]:
                return None
            case [b"HANG"]:
                return b""
            case _:
                return b"+OK\r\n"

    async with listening(answer, piece) as peer:
        yield Address.of(peer.url)


@asynccontextmanager
async def linked(address: Address, call_seconds: float = SOON) -> AsyncIterator[Link]:
    """A link that is connected, and closed again."""
    link = Link(address, call_seconds, lambda _: None)
    link.start()
    try:
        await link.ping()
        yield link
    finally:
        await link.close()


async def by_redis_py(address: Address, reply: bytes) -> Any:
    """What redis-py makes of it: a value, or an error that it raises."""
    try:
        ((found),) = await address.ask(("SAY", reply))  # type: ignore[arg-type]  # bytes will do
    except RedisError as error:
        return error
    return found


def described(found: Any) -> Any:
    """Errors are no values that are equal."""
    if isinstance(found, list):
        return [described(one) for one in found]
    return (type(found), str(found), vars(found)) if isinstance(found, Exception) else found


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
async def test_replies_and_errors_are_those_of_redis_py(size: int) -> None:
    """However the stream is cut, each call has what redis-py would give it."""
    replies = VALUES + [f"-{error}\r\n".encode() for error in ERRORS]
    async with server() as plain:
        expected = [await by_redis_py(plain, reply) for reply in replies]
    async with server(size) as address, linked(address) as link:
        calls = [link.execute("SAY", reply) for reply in replies]
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [described(one) for one in found] == [described(one) for one in expected]
    assert sum(isinstance(one, ResponseError) for one in found) == len(ERRORS)


@pytest.mark.parametrize(("text", "kind"), IN_SCRIPTS)
async def test_what_a_script_was_refused_with_is_known(text: str, kind: type[Exception]) -> None:
    """A full server has done nothing, and a replica is to be left, whichever version says so."""
    wrapped = "ERR Error running script (call to f_a6eb): @user_script:34: @user_script: 34: -"
    async with server() as address, linked(address) as link:
        (found,) = await asyncio.gather(link.execute("SAY", f"-{wrapped}{text}\r\n"), return_exceptions=True)
    assert type(found) is kind


@pytest.mark.parametrize("iterations", range(6))
async def test_it_closes_in_the_very_moment_in_which_it_is_lost(iterations: int) -> None:
    """Python 3.11 forgets a cancellation that meets the failure of a task group; to close is to end all the same."""
    async with server() as address:
        link = Link(address, SOON, lambda _: None)
        link.start()
        await link.ping()
        with suppress(RedisError):
            await link.execute("SAY", b"-READONLY You can't write against a read only replica.\r\n")
        for _ in range(iterations):
            await asyncio.sleep(0)
        async with asyncio.timeout(SOON):
            await link.close()


@pytest.mark.parametrize("error", FATAL)
async def test_errors_of_the_connection_end_it(error: str) -> None:
    """No call is told more than that, and the link connects anew."""
    async with server() as address:
        expected = await by_redis_py(address, f"-{error}\r\n".encode())
        assert isinstance(expected, Disconnected)
        async with linked(address) as link:
            calls = [link.execute("SAY", f"-{error}\r\n"), link.execute("SAY", "+behind\r\n")]
            for call in calls:
                with pytest.raises(Disconnected, match="connection lost: ") as raised:
                    await call
                assert str(expected) in str(raised.value)
                assert not isinstance(raised.value, NotSent)
            await recovered(link)


async def recovered(link: Link) -> None:
    """Wait until it is connected again."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                return await link.ping()
            except NotSent:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("SAY", "-READONLY You can't write against a read only replica.\r\n"), "is a replica"),
        (("SAY", "?what is this\r\n"), "Protocol error"),
        (("SAY", "+one\r\n+too many\r\n"), "a reply that belongs to no command"),
        (("CUT",), "closed by the server"),
    ],
)
async def test_a_connection_of_no_more_use_is_left(
    command: tuple[str, ...], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is logged once, and the link connects anew."""
    async with server() as address, linked(address) as link:
        lost = link._session
        (found,) = await asyncio.gather(link.execute(*command), return_exceptions=True)
        assert found == b"one" or isinstance(found, ReadOnlyError | Disconnected)
        async with asyncio.timeout(SOON):
            while link._session is lost:
                await asyncio.sleep(0.01)
        await recovered(link)
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert reason in warning.getMessage()


async def test_what_is_asked_in_one_iteration_leaves_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was given up by then does not leave at all."""
    sent: list[int] = []
    send = Session.send

    def count(session: Session, calls: Any) -> None:
        sent.append(len(calls))
        send(session, calls)

    async with server() as address, linked(address) as link:
        monkeypatch.setattr(Session, "send", count)
        calls = [link.execute("SAY", f":{n}\r\n") for n in range(100)]
        for call in calls[::4]:
            call.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [one for one in found if isinstance(one, int)] == [n for n in range(100) if n % 4]
        assert await link.execute("SAY", "+later\r\n") == b"later"
    assert sent == [75, 1]


async def test_a_server_that_is_slow_to_read_is_sent_no_more_than_it_takes() -> None:
    """What waits for it is not buffered; what was given up by then is not sent."""
    go_on = asyncio.Event()
    asked: list[bytes] = []

    async def answer(command: list[bytes]) -> bytes:
        if command[0] == b"WAIT":
            await go_on.wait()
        asked.append(command[0])
        return b"+OK\r\n"

    async with listening(answer) as peer, linked(Address.of(peer.url)) as link:
        waiting = link.execute("WAIT")
        # More than the buffers of two sockets hold, so from some time on the server takes no more.
        taken = [link.execute("SAY", b"x" * 100_000) for _ in range(300)]
        assert link._session is not None
        transport, buffered = link._session._transport, -1
        while transport.get_write_buffer_size() != buffered:
            buffered = transport.get_write_buffer_size()
            await asyncio.sleep(0.2)
        given_up = [link.execute("LATE") for _ in range(10)]
        await asyncio.sleep(0.01)
        assert transport.get_write_buffer_size() == buffered > 0
        for call in given_up:
            call.cancel()
        last = link.execute("LAST")
        go_on.set()
        async with asyncio.timeout(SOON):
            assert {await waiting, await last, *[await call for call in taken]} == {b"OK"}
    assert asked[-1] == b"LAST"
    assert b"LATE" not in asked


async def test_a_call_with_its_reply_waits_no_more() -> None:
    """What it was told is not kept in memory until its time would be over."""
    async with server() as address, linked(address) as link:
        calls = [link.execute("SAY", b"$70000\r\n" + b"x" * 70000 + b"\r\n") for _ in range(10)]
        assert len(link._timeouts._due) == 10
        await asyncio.gather(*calls)
        assert link._timeouts._due == {}
