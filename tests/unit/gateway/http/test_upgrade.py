"""Offers to upgrade, held to the same requests without them: whatever came with them and however it was cut."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import httptools
import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from gateway.http.limits import MOST_WAITING
from gateway.http.server import ProtocolFactory
from gateway.http.upgrade import head_without_offer
from pipeline.boundary import WHOLE_RESPONSE

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
OFFERS = (
    H2C,
    b"UPGRADE: h2c, foo/2\r\nconnection: keep-alive\r\nConnection:upgrade\r\n",
    b"upgrade:\tTLS/1.0\r\nupgrade: websocket\r\nconnection: UPGRADE\r\n",
)
OF_AN_OFFER = (b"connection", b"upgrade", b"http2-settings")
HIDDEN = b"POST /hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
BODIES = (b"", b"abc", HIDDEN, b"\r\n\r\n" + HIDDEN, b"0\r\n\r\n" + HIDDEN, H2C * 3)


def by_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(body: bytes, trailers: bytes = b"") -> bytes:
    middle = len(body) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part)
    return b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n" + trailers + b"\r\n"


@dataclass(frozen=True)
class Request:
    """One request: ``rest`` is its framing, the end of its head, and its body."""

    first: bytes = b"POST /a HTTP/1.1\r\n"
    offer: bytes = H2C
    connection: bytes = b""
    rest: bytes = by_length(b"")


HEADERS = b"Host: x\r\nX-Own: \t a \xff\r\nUpgrade-Insecure-Requests: 1\r\nEmpty:\r\n"
RESTS = st.one_of(
    st.sampled_from(BODIES).map(by_length),
    st.sampled_from(BODIES).map(in_chunks),
    st.just(b"\r\n"),
    st.sampled_from(
        [
            in_chunks(HIDDEN, b"Content-Length: 50\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"),
            # What is no HTTP, or not told for sure where it ends.
            b"Content-Length: 4\r\n" + in_chunks(HIDDEN),
            b"Transfer-Encoding: chunked\r\n" + by_length(HIDDEN),
            b"Content-Length: 4\r\n" + by_length(HIDDEN),
            b"Content-Length: +4\r\n\r\n" + HIDDEN,
            b"Transfer-Encoding: gzip\r\n\r\n" + HIDDEN,
            b"Transfer-Encoding: chunked, gzip\r\n\r\n" + HIDDEN,
            b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nX" + HIDDEN,
            b"Transfer-Encoding:\r\n chunked\r\n\r\n" + HIDDEN,
            b"Host: y\r\n\r\n" + HIDDEN,
            b"Content-Length : 0\r\n\r\n" + HIDDEN,
            b"Expect: 100-continue\r\n" + by_length(HIDDEN),
            b"Content-Length: 9999\r\n\r\n" + HIDDEN,
        ]
    ),
)
REQUESTS = st.builds(
    Request,
    st.sampled_from(
        [
            b"POST /a HTTP/1.1\r\n",
            b"GET /b?c=%20 HTTP/1.1\r\n",
            b"HEAD /c HTTP/1.1\r\n",
            b"POST /unread HTTP/1.1\r\n",
            b"POST /d HTTP/1.0\r\n",
            b"CONNECT /e HTTP/1.1\r\n",
            b"GET http://a:b/ HTTP/1.1\r\n",
            b"GET / HTTP/9.9\r\n",
            b"GET / HTTP/2.0\r\n",
        ]
    ),
    st.sampled_from(OFFERS),
    st.sampled_from([b"", b"", b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"]),
    RESTS,
)
Packets = list[bytes]


class Transport:
    """Keeps what is written, and whether it reads and is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False
        self.reads = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> None:
        return None


class Application:
    """Answers each request by its number, and notes it with its body. One to /unread is answered without that."""

    def __init__(self) -> None:
        self.reached: list[list[Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [header for header in scope["headers"] if header[0] not in OF_AN_OFFER]
        request = [scope["method"], scope["path"], scope["query_string"], scope["http_version"], headers]
        self.reached.append(request)
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                request.append("disconnect")
                return
            body, more = body + message["body"], message["more_body"]
        request.append(body)
        answer = b"%d" % len(self.reached)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": WHOLE_RESPONSE, "status": 200, "headers": headers, "body": answer})


class Outcome(NamedTuple):
    """What reached the application, what the client was sent, and whether the connection has ended."""

    reached: list[list[Any]]
    answers: bytes
    is_refused: bool
    is_closed: bool
    tasks: int


async def outcome(packets: Packets, waits: bool) -> Outcome:
    """``waits`` says whether everything is answered between two packets that can be."""
    app = Application()
    config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, access_log=False)
    config.load()
    connection, transport = ProtocolFactory()(config, ServerState(), {}), Transport()

    async def settle() -> None:
        before = -1
        while before != len(app.reached) + len(transport.written):
            before = len(app.reached) + len(transport.written)
            for _ in range(20):
                await asyncio.sleep(0)

    connection.connection_made(transport)
    for packet in packets:
        if waits or not transport.reads:
            await settle()
        if not transport.is_closed:
            connection.data_received(packet)
    await settle()
    if not transport.is_closed and not connection.eof_received():
        transport.close()
    await settle()
    connection.connection_lost(None)
    await settle()
    # A refusal has an id and a time of its own.
    answers, refusal, _ = transport.written.partition(b"HTTP/1.1 400 ")
    return Outcome(app.reached, answers, bool(refusal), transport.is_closed, len(connection.tasks))


def cut(requests: list[Request], cuts: list[int], offers: bool) -> Packets:
    """The requests in packets, cut at the same places with their offers and without them."""
    packets, place = [b""], 0
    for request in requests:
        for part, is_there in (
            (request.first + HEADERS, True),
            (request.offer, offers),
            (request.connection + request.rest, True),
        ):
            ends = sorted({one - place for one in cuts if place < one <= place + len(part)})
            for begin, end in pairwise(sorted({0, *ends, len(part)})):
                packets[-1] += part[begin:end] if is_there else b""
                if end in ends:
                    packets.append(b"")
            place += len(part)
    return [packet for packet in packets if packet]


@settings(deadline=None)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 900), max_size=8),
    waits=st.booleans(),
)
@example(requests=[Request(rest=by_length(HIDDEN)), Request()], cuts=[], waits=False)
@example(requests=[Request(rest=by_length(HIDDEN)), Request()], cuts=list(range(1, 900)), waits=True)
@example(requests=[Request(rest=in_chunks(HIDDEN)), Request()], cuts=list(range(1, 900)), waits=False)
@example(requests=[Request(rest=b"Transfer-Encoding: gzip\r\n\r\n" + HIDDEN)], cuts=[], waits=False)
def test_an_offer_makes_no_difference(requests: list[Request], cuts: list[int], waits: bool) -> None:
    """The same bodies in the same order, the same answers, the same end of the connection."""

    async def compare() -> None:
        with_offers, without = cut(requests, cuts, offers=True), cut(requests, cuts, offers=False)
        assert await outcome(with_offers, waits) == await outcome(without, waits)

    asyncio.run(compare())


async def test_what_an_offer_comes_with_is_read() -> None:
    """So that the two do not merely agree: every request of a connection is served, with its body."""
    requests = [Request(rest=by_length(HIDDEN)), Request(rest=in_chunks(b"abc")), Request(rest=b"\r\n")]
    found = await outcome(cut(requests, [], offers=True), waits=False)
    assert [request[-1] for request in found.reached] == [HIDDEN, b"abc", b""]
    assert found.answers.count(b"HTTP/1.1 200 OK") == 3
    assert not found.is_refused


async def test_a_packet_may_be_full_of_offers() -> None:
    """As many are served as of other requests, however deep the stack may be."""
    found = await outcome(cut([Request(rest=b"\r\n")] * 2000, [], offers=True), waits=False)
    assert len(found.reached) == found.answers.count(b"HTTP/1.1 200 OK") == MOST_WAITING
    assert found.answers.count(b"connection: close") == 1
    assert found.is_closed
    assert not found.is_refused


class Nobody:
    """Whom a parser tells."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Is told of a header."""


def test_a_head_comes_once_more_without_its_offer() -> None:
    """Method, target, version and every other header as they were understood."""
    parser = httptools.HttpRequestParser(Nobody())
    with pytest.raises(httptools.HttpParserUpgrade):
        parser.feed_data(b"PUT /a?b HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    headers = [
        (b"connection", b"upgrade"),
        (b"upgrade", b"h2c"),
        (b"x-upgrade", b""),
        (b"a", b"upgrade: \xff"),
    ]
    assert head_without_offer(parser, b"/a?b", headers) == (
        b"PUT /a?b HTTP/1.0\r\nconnection: upgrade\r\nx-upgrade: \r\na: upgrade: \xff\r\n\r\n"
    )
