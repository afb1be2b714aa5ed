"""One request and its answer: the same as uvicorn's own cycle makes of it, in fewer writes."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http import cycle
from gateway.http.cycle import Exchange, pack
from gateway.http.transport import Outgoing, Turn

DATE = [(b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")]
LOGGER = logging.getLogger("uvicorn.error")
NAMES = st.sampled_from(
    [
        b"content-type",
        b"x-tracking-id",
        b"retry-after",
        b"Content-Type",
        b"connection",
        b"transfer-encoding",
        b"content-length",
        b"bad name",
        b"",
    ]
)
VALUES = st.sampled_from(
    [b"a", b"", b"close", b"chunked", b"keep-alive", b"3", b"a\r\nb: c", b"a\x00", b"\ta \xff"]
)
BODIES = st.sampled_from([b"", b"abc", b"a longer body"])
Answers = list[dict[str, Any]]


class Transport:
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed


def ours(transport: Any, answered: Callable[[], None], method: str, keep_alive: bool) -> Exchange:
    scope = {"type": "http", "method": method}
    outgoing = Outgoing(transport, Turn(asyncio.get_running_loop()))
    return Exchange(scope, outgoing, FlowControl(transport), DATE, keep_alive, False, answered)


def theirs(
    transport: Any, answered: Callable[[], None], method: str, keep_alive: bool
) -> RequestResponseCycle:
    scope: Any = {"type": "http", "method": method}
    return RequestResponseCycle(
        scope=scope,
        transport=transport,
        flow=FlowControl(transport),
        logger=LOGGER,
        access_logger=LOGGER,
        access_log=False,
        default_headers=DATE,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=answered,
    )


async def outcome(make: Any, method: str, keep_alive: bool, messages: Answers) -> object:
    """Everything that a client or the server can tell of an answer, of an application that then ends."""
    transport = Transport()
    completions: list[int] = []
    cycle = make(transport, lambda: completions.append(1), method, keep_alive)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            # A copy: an application may use its headers again.
            await send({**message})

    if make is ours:
        tasks: set[asyncio.Task[None]] = set()
        cycle.begin(app, asyncio.get_running_loop(), tasks)
        await asyncio.gather(*tasks)
        assert not tasks
    else:
        await cycle.run_asgi(app)
    return b"".join(transport.writes), transport.is_closed, len(completions), cycle.response_complete


def run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(work)


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    bodies = draw(st.lists(BODIES, min_size=1, max_size=3))
    if draw(st.booleans()):
        headers.insert(0, (b"content-length", b"%d" % sum(map(len, bodies))))
    status = draw(st.sampled_from([200, 202, 204, 304, 404, 503]))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    rest = [
        {"type": "http.response.body", "body": body, "more_body": number < len(bodies)}
        for number, body in enumerate(bodies, 1)
    ]
    bare = {"type": "http.response.start", "status": status}
    return draw(
        st.sampled_from(
            [[start, *rest], [bare, *rest], rest, [start], [start, start], [start, *rest, rest[-1]], []]
        )
    )


@given(method=st.sampled_from(["POST", "GET", "HEAD"]), keep_alive=st.booleans(), messages=answers())
@example(
    method="POST",
    keep_alive=True,
    messages=[
        {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"abc"},
    ],
)
def test_an_answer_is_uvicorns_byte_for_byte(method: str, keep_alive: bool, messages: Answers) -> None:
    """Whatever an application sends and then ends or fails with: the same bytes, the same end of the connection."""
    assert run(outcome(ours, method, keep_alive, messages)) == run(
        outcome(theirs, method, keep_alive, messages)
    )


def test_a_whole_answer_is_one_write() -> None:
    """Head and body leave together."""
    transport = Transport()

    async def answer() -> None:
        cycle = ours(transport, lambda: None, "POST", True)
        head = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
        await cycle.send(head)
        assert transport.writes == []
        await cycle.send({"type": "http.response.body", "body": b"ok"})
        await asyncio.sleep(0)

    run(answer())
    assert len(transport.writes) == 1
    assert transport.writes[0].endswith(b"content-length: 2\r\n\r\nok")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"\x00", b"\x7f"], ids=repr)
def test_a_value_cannot_begin_a_line_of_its_own(value: bytes) -> None:
    """It is not packed; uvicorn refuses it."""
    headers = ((b"content-length", b"0"), (b"x-own", value))
    assert pack("POST", 202, headers, b"") is None


def test_names_are_remembered_only_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's stage may make them up, one for each request. Beyond it uvicorn writes the answer."""
    monkeypatch.setattr(cycle, "_LINES", dict(cycle._LINES))
    packed = [
        pack("POST", 202, ((b"content-length", b"0"), (b"x-%d" % number, b"")), b"") for number in range(3000)
    ]
    assert packed[0] is not None
    assert packed[-1] is None
    assert len(cycle._LINES) <= 1000


async def received(*steps: Callable[[Exchange], None]) -> list[dict[str, Any]]:
    """What an application is told, one message before each step and one at the end."""
    cycle = ours(Transport(), lambda: None, "POST", True)
    found = []
    for step in steps:
        step(cycle)
        found.append(await asyncio.wait_for(cycle.receive(), 1))
    return found


def arrive(body: bytes, *, more: bool) -> Callable[[Exchange], None]:
    def step(cycle: Exchange) -> None:
        cycle.body += body
        cycle.more_body = more
        cycle.message_event.set()

    return step


def go(cycle: Exchange) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def test_a_body_that_is_there_is_given_at_once() -> None:
    """Once; whoever asks again is told when the client is gone."""
    assert run(received(arrive(b"abc", more=False), go)) == [
        {"type": "http.request", "body": b"abc", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_a_body_in_parts_is_given_in_parts() -> None:
    """And its end only once."""
    assert run(received(arrive(b"a", more=True), arrive(b"bc", more=False), go)) == [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"bc", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_after_its_body_an_application_may_wait_for_the_client_to_go() -> None:
    """It is not told of a second body meanwhile."""

    async def wait() -> None:
        cycle = ours(Transport(), lambda: None, "POST", True)
        arrive(b"abc", more=False)(cycle)
        await cycle.receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cycle.receive(), 0.05)

    run(wait())


async def served(app: Any) -> Transport:
    """What an application wrote."""
    transport = Transport()
    tasks: set[asyncio.Task[None]] = set()
    ours(transport, lambda: None, "POST", True).begin(app, asyncio.get_running_loop(), tasks)
    await asyncio.gather(*tasks)
    assert not tasks
    return transport


def test_an_application_that_fails_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    """By uvicorn, which closes the connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    transport = run(served(app))
    assert transport.is_closed
    assert b"".join(transport.writes).startswith(b"HTTP/1.1 500 ")
    assert "Exception in ASGI application" in caplog.text


def test_a_head_whose_body_never_came_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """It may be all of the answer: the client must not be left with nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})

    transport = run(served(app))
    assert transport.is_closed
    assert b"".join(transport.writes).startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"".join(transport.writes).endswith(b"content-length: 0\r\n\r\n")
    assert "without completing response" in caplog.text


def test_an_application_that_ends_without_its_answer_is_answered_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In uvicorn's words."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Does nothing."""

    assert b"".join(run(served(app)).writes).startswith(b"HTTP/1.1 500 ")
    assert "without starting response" in caplog.text


def test_a_failure_leaves_no_circle_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it held would wait for the garbage collector."""
    # pytest keeps what is logged, and so the exception.
    monkeypatch.setattr(LOGGER, "disabled", True)

    class Held:
        """Something of a request's."""

    held: list[weakref.ref[Held]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        raise LookupError

    gc.disable()
    try:
        run(served(app))
        assert held[0]() is None
    finally:
        gc.enable()
