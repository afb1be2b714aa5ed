"""uvicorn's HTTP protocol as we bound it, on sockets, with clients of all manners."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.http import limits, protocol, transport
from gateway.http.cycle import EXTENSIONS, Cycle
from gateway.http.protocol import BoundedHttpProtocol
from gateway.http.server import ProtocolFactory
from pipeline.boundary import WHOLE_RESPONSE

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each test runs on asyncio's own loop and on uvloop, which call a protocol in ways of their own."""
    return "asyncio", {"use_uvloop": request.param}


class Server:
    """The protocol on a free port, around an app that answers each request with its path once it may."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.reached: list[str] = []
        self.ended: list[str] = []
        self.may_answer = asyncio.Event()
        self.connections_refused = 0
        self.address = ("", 0)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.reached.append(path)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ended.append(f"{path} disconnected")
                return
            if not message["more_body"]:
                break
        await self.may_answer.wait()
        body = path.encode() * (100_000 if path == "/long" else 1)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": WHOLE_RESPONSE, "status": 200, "headers": headers, "body": body})
        self.ended.append(f"{path} answered")

    def count_refused(self) -> None:
        self.connections_refused += 1

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A client's connection to it."""
        config = uvicorn.Config(
            self.app, interface="asgi3", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        factory = ProtocolFactory()
        lifespan_state = {limits.CONNECTION_REFUSED: self.count_refused}
        listening = await asyncio.get_running_loop().create_server(
            lambda: factory(config, self.state, lifespan_state), "127.0.0.1"
        )
        self.address = listening.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            yield reader, writer
        finally:
            writer.close()
            listening.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_request_is_answered_though_its_client_sends_no_more() -> None:
    """It may still read; after the answer the connection ends, though it would be kept alive."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(POST % b"a" + b"body")
        writer.write_eof()
        await until(lambda: server.reached)
        # The end of sending has arrived: it must not have ended the connection.
        await asyncio.sleep(0.1)
        server.may_answer.set()
        assert (await reader.read()).endswith(b"\r\n\r\n/a")
        await until(lambda: not server.state.connections)


async def test_what_was_pipelined_before_the_end_is_answered_in_order() -> None:
    """Each request gets its own answer, and the last one ends the connection."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" + POST % b"b" + b"body" + GET % b"c")
        writer.write_eof()
        await until(lambda: server.reached)
        await asyncio.sleep(0.1)
        server.may_answer.set()
        received = await reader.read()
    answers = [answer.partition(b"\r\n\r\n")[2][:2] for answer in received.split(b"HTTP/1.1 200 OK")[1:]]
    assert answers == [b"/a", b"/b", b"/c"]
    assert server.ended == ["/a answered", "/b answered", "/c answered"]


@pytest.mark.parametrize("piece", [GET[:12], POST % b"cut", POST % b"cut" + b"bo"], ids=repr)
async def test_of_what_came_only_in_part_nothing_is_served(piece: bytes) -> None:
    """It never becomes whole: it is forgotten, and the request before it ends the connection."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" + piece)
        writer.write_eof()
        await until(lambda: server.reached)
        await asyncio.sleep(0.1)
        server.may_answer.set()
        assert (await reader.read()).count(b"HTTP/1.1 ") == 1
        await until(lambda: not server.state.connections)
    assert server.ended == ["/a answered"]


async def test_a_body_that_ends_too_soon_is_a_disconnection() -> None:
    """The app hears that its client is gone, and the connection is closed at once."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(POST % b"a" + b"bo")
        await until(lambda: server.reached)
        writer.write_eof()
        assert await reader.read() == b""
        await until(lambda: server.ended)
    assert server.ended == ["/a disconnected"]


@pytest.mark.parametrize("sent", [b"", GET[:12], GET % b"a"], ids=["nothing", "half a head", "a request"])
async def test_an_idle_connection_ends_with_its_client(sent: bytes) -> None:
    """Nobody waits for an answer on it: it is closed at once, not kept until it times out."""
    server = Server()
    server.may_answer.set()
    async with server.connection() as (reader, writer):
        await until(lambda: server.state.connections)
        writer.write(sent)
        await until(lambda: len(server.ended) == sent.count(b"\r\n\r\n"))
        writer.write_eof()
        await reader.read()
        await until(lambda: not server.state.connections)


async def test_a_request_runs_to_its_end_though_its_client_has_gone() -> None:
    """A client that has closed both sides looks at first like one that still reads; the answer ends the connection."""
    server = Server()
    async with server.connection() as (_, writer):
        writer.write(GET % b"a")
        await until(lambda: server.reached)
        writer.close()
        await writer.wait_closed()
        server.may_answer.set()
        await until(lambda: server.ended and not server.state.connections)
    assert server.ended == ["/a answered"]


async def test_a_url_that_cannot_be_read_leaves_the_requests_before_it_alone() -> None:
    """Its refusal must not be taken for the answer to one of them."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" + GET % b"b" + b"GET http://a:b/ HTTP/1.1\r\n\r\n")
        await until(lambda: server.reached)
        server.may_answer.set()
        received = await reader.read()
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == 2
    assert server.ended == ["/a answered", "/b answered"]


async def test_a_head_that_is_slow_leaves_the_requests_before_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are answered, and the last answer ends the connection; when none waits, it ends at once."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    for pipelined in (GET % b"a" + GET[:12], GET[:12]):
        server = Server()
        async with server.connection() as (reader, writer):
            writer.write(pipelined)
            await asyncio.sleep(0.3)
            if expected := pipelined.count(b"\r\n\r\n"):
                writer.write(GET[12:])
                await asyncio.sleep(0.1)
            server.may_answer.set()
            async with asyncio.timeout(20):
                received = await reader.read()
        assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == expected
        assert len(server.reached) == expected


async def test_nothing_is_parsed_behind_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read and dropped, so that the end of the connection is no reset, which would lose answers."""
    monkeypatch.setattr(protocol, "HEAD_BYTES", 1000)
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" + GET[:-2] + b"x: " + b"a" * 1000)
        await until(lambda: server.reached)
        (connection,) = server.state.connections
        assert isinstance(connection, BoundedHttpProtocol)
        for _ in range(10):
            writer.write(b"a" * 100_000)
            await asyncio.sleep(0.01)
        writer.write(b"\r\n\r\n")
        # All of it is taken, though nobody is answered.
        await writer.drain()
        await asyncio.sleep(0.05)
        assert connection.headers == [(b"host", b"x")]
        server.may_answer.set()
        received = await reader.read()
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == 1
    assert server.reached == ["/a"]


async def test_head_is_answered_and_keeps_its_place() -> None:
    """It has no body that would take its head along; what is pipelined behind it must not come in its place."""
    server = Server()
    server.may_answer.set()
    async with server.connection() as (reader, writer):
        writer.write(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HEAD /ab HTTP/1.1\r\nHost: x\r\n\r\n" + GET % b"abc")
        assert b"content-length: 3\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert (await reader.readuntil(b"/abc")).endswith(b"content-length: 4\r\n\r\n/abc")


async def test_a_client_that_takes_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to send it more would wait for ever, and keep its place among the sends in flight."""
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.2)
    server = Server()
    server.may_answer.set()
    async with server.connection() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # there on every transport that reads
        writer.write(GET % b"long" * 100)
        await until(lambda: server.reached and not server.state.connections)
    assert len(server.ended) < 100


async def test_a_slow_client_gets_its_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it goes on reading it is not given up."""
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 1.0)
    server = Server()
    server.may_answer.set()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"long" * 20)
        found = 0
        async with asyncio.timeout(30):
            while found < 20 * 500_000:
                found += len(await reader.read(500_000))
                await asyncio.sleep(0.02)


async def test_many_pipelined_requests_cost_no_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet full of heads must not be looked through anew for each of them."""
    looked_at = 0

    class Counted(Cycle):
        def __getattribute__(self, name: str) -> object:
            nonlocal looked_at
            looked_at += name == "response_complete"
            return super().__getattribute__(name)

    monkeypatch.setattr(protocol, "Cycle", Counted)
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" * 200)
        server.may_answer.set()
        for _ in range(200):
            await reader.readuntil(b"\r\n\r\n/a")
    assert looked_at < 20 * 200


@pytest.mark.parametrize("cut", [1, 20, -4, -3, -2, -1, 0, 1000])
async def test_no_byte_of_a_body_is_changed(cut: int) -> None:
    """Wherever a packet ends. Were what looks like an offer in it rewritten, its end would be a request of its own."""
    server = Server()
    server.may_answer.set()
    hidden = GET % b"bcd"
    body = b"x" + b"\r\nupgrade:" * (len(hidden) // len(b"grown!")) + hidden
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    whole = head + body
    cut = cut if cut > 0 else len(head) + cut
    async with server.connection() as (reader, writer):
        writer.write(whole[:cut])
        await asyncio.sleep(0.05)
        writer.write(whole[cut:])
        assert (await reader.readuntil(b"/a")).startswith(b"HTTP/1.1 200 OK")
        writer.write_eof()
        assert await reader.read() == b""
    assert server.reached == ["/a"]


async def test_a_client_that_sends_too_far_ahead_of_its_answers_is_stopped() -> None:
    """One packet holds thousands of small requests. What is taken is answered, and ends the connection."""
    server = Server()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" * 5000)
        await until(lambda: server.reached)
        server.may_answer.set()
        received = await reader.read()
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == limits.MOST_WAITING
    assert received.count(b"connection: close") == 1


async def test_nothing_is_read_while_many_wait() -> None:
    """Not with each answer either: a client that pipelines without end must not fill the memory."""
    server = Server()
    most = limits.MANY_WAITING
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a" * (most + 4))
        await until(lambda: server.reached)
        writer.write(GET % b"b")
        await asyncio.sleep(0.1)
        (connection,) = server.state.connections
        assert isinstance(connection, BoundedHttpProtocol)
        assert len(connection._unanswered) == most + 4
        assert connection.flow.read_paused
        server.may_answer.set()
        for _ in range(most + 4):
            await reader.readuntil(b"/a")
        await reader.readuntil(b"/b")
        assert not connection.flow.read_paused


async def test_a_client_that_leaves_the_rest_of_its_answer_unread_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where it is too little for a full buffer: the end of an idle connection must not wait for it."""
    monkeypatch.setattr(transport, "WRITE_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 3600)
    server = Server()
    server.may_answer.set()
    async with server.connection() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # there on every transport that reads
        await until(lambda: server.state.connections)
        (connection,) = server.state.connections
        assert isinstance(connection, BoundedHttpProtocol)
        while not connection.transport.get_write_buffer_size():
            writer.write(GET % b"long")
            await asyncio.sleep(0.02)
        connection.timeout_keep_alive_handler()
        await until(lambda: not server.state.connections)


async def test_a_connection_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last files that may be open are the gateway's own: it could not reach its store or its broker again."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(limits, "OWN_FILES", soft - 1)
    server = Server()
    server.may_answer.set()
    async with server.connection() as (reader, writer):
        writer.write(GET % b"a")
        await reader.readuntil(b"/a")
        second_reader, second = await asyncio.open_connection(*server.address)
        refused = await second_reader.read()
        second.close()
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"connection: close\r\n" in refused
        assert b"retry-after: 1\r\n" in refused
        assert b'"error_code":"SERVICE_UNAVAILABLE"' in refused
        assert server.connections_refused == 1
        writer.write(GET % b"b")
        await reader.readuntil(b"/b")
    assert server.reached == ["/a", "/b"]


async def test_nothing_is_served_on_a_connection_after_a_connect() -> None:
    """What follows it would be another protocol's."""
    server = Server()
    server.may_answer.set()
    async with server.connection() as (reader, writer):
        writer.write(b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET % b"b")
        received = await reader.read()
    assert b"connection: close" in received
    assert server.reached == ["/a"]


URLS = (
    b"/a",
    b"/a",
    b"/b%20c?x=%20&y",
    b"/a?",
    b"/%C3%A4",
    b"//a//b",
    b"/a",
    b"http://host/path?q=1",
    b"http://host",
    b"*",
    b"a",
    b"/a#fragment",
    b"/a%2Fb",
    b"http://[::1",
)
HEADS = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nX-Own: \t a \t\r\nx-OWN: \xff\r\nEmpty:\r\n\r\n",
    b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS %s HTTP/1.1\r\nHost: x\r\n\r\n",
)


class Deaf:
    """A transport that nobody is behind."""

    def get_extra_info(self, name: str, default: Any = None) -> object:
        return {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}.get(name)

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.mark.parametrize("head", HEADS, ids=repr)
async def test_an_application_is_told_what_uvicorn_would_tell_it(head: bytes) -> None:
    """Of one request after another on a connection, whatever its URL; and what uvicorn refuses is refused."""
    told: dict[object, list[object]] = {}
    factory = ProtocolFactory()
    for kind in (HttpToolsProtocol, factory):
        scopes: list[object] = told.setdefault(kind, [])

        async def app(scope: Scope, receive: Receive, send: Send, scopes: list[object] = scopes) -> None:
            # That a server has extensions is nothing that uvicorn says.
            assert scope.pop("extensions", EXTENSIONS) is EXTENSIONS
            scopes.append({**scope})
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, access_log=False)
        config.load()
        for urls in (URLS, *([url] for url in URLS)):
            connection: HttpToolsProtocol = kind(config, ServerState(), {"own": 1})
            connection.connection_made(Deaf())  # type: ignore[arg-type]  # all of a transport that it uses
            for url in urls:
                before = len(scopes)
                with contextlib.suppress(AttributeError):  # uvicorn's own, at an URL without a path.
                    connection.data_received(head % url)
                await asyncio.sleep(0.01)
                if len(scopes) == before:
                    scopes.append(f"{url!r} is refused")
                    break
            connection.connection_lost(None)
    assert told[factory] == told[HttpToolsProtocol]
    assert len(told[factory]) > len(URLS)


async def test_a_client_that_pipelines_and_goes_leaves_nothing_behind() -> None:
    """Requests that were never begun refer to their connection, and it to them: no reference cycle may remain."""
    server = Server()
    held: list[weakref.ref[object]] = []

    class Watched(Cycle):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            held.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "Cycle", Watched)
        gc.collect()
        gc.disable()
        try:
            async with server.connection() as (_, writer):
                writer.write(GET % b"a" * 5)
                await until(lambda: len(held) == 5 and server.reached)
                writer.transport.abort()
            # It is noticed with the first answer: as long as requests wait, nothing is read.
            server.may_answer.set()
            await until(lambda: not server.state.connections)
            await until(lambda: not server.state.tasks)
            # The last is the connection's own until it is gone itself.
            await until(lambda: not [one for one in held[:4] if one() is not None])
        finally:
            gc.enable()
