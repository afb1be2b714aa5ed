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
from gateway.http.cycle import Cycle, pack
from gateway.http.transport import BatchingTransport, WriteBatch
from pipeline.boundary import WHOLE_RESPONSE
from tests.support.lines import Lines

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
Messages = list[dict[str, Any]]


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


def ours(transport: Any, answered: Callable[[], None], method: str, keep_alive: bool) -> Cycle:
    scope = {"type": "http", "method": method}
    batching = BatchingTransport(transport, WriteBatch(asyncio.get_running_loop()))
    return Cycle(scope, batching, FlowControl(transport), DATE, keep_alive, False, answered)


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


async def outcome(make: Any, method: str, keep_alive: bool, messages: Messages) -> object:
    """Everything that a client, the server and the application can tell of what an application has sent."""
    transport = Transport()
    completions: list[int] = []
    cycle = make(transport, lambda: completions.append(1), method, keep_alive)
    error = None
    try:
        for message in messages:
            for part in [message] if make is ours else in_asgi(message):
                # A copy: an application may use its headers again.
                await cycle.send({**part})
    except Exception as raised:  # noqa: BLE001 - the two must fail alike, whatever it is
        error = type(raised), str(raised)
    await asyncio.sleep(0)
    written = b"".join(transport.writes)
    return written, transport.is_closed, len(completions), cycle.response_complete, cycle.keep_alive, error


async def test_an_answer_may_leave_in_the_place_of_one_with_a_malformed_header() -> None:
    """Nothing of the first was written; and of one that has begun there is no second."""
    for keep_alive in (True, False):
        transport, completions = Transport(), []
        cycle = ours(transport, lambda: completions.append(1), "POST", keep_alive)  # noqa: B023 - called here
        length = (b"content-length", b"3")
        whole = {"type": WHOLE_RESPONSE, "status": 202, "headers": [length], "body": b"abc"}
        with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
            await cycle.send({**whole, "headers": [length, (b"x", b"a\r\nb: c")]})
        await cycle.send(whole)
        with pytest.raises(RuntimeError, match="after response already completed"):
            await cycle.send(whole)
        await asyncio.sleep(0)
        written = b"".join(transport.writes)
        assert written.startswith(b"HTTP/1.1 202 Accepted\r\n")
        assert written.endswith(b"\r\n\r\nabc")
        assert written.count(b"HTTP/1.1") == 1
        assert completions == [1]


def in_asgi(message: dict[str, Any]) -> Messages:
    """The same message by ASGI's own."""
    if message["type"] != WHOLE_RESPONSE:
        return [message]
    start = {"type": "http.response.start", "status": message["status"], "headers": message["headers"]}
    return [start, {"type": "http.response.body", "body": message["body"]}]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(work)


@st.composite
def whole_answers(draw: st.DrawFn) -> dict[str, Any]:
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    body = draw(BODIES)
    if draw(st.booleans()):
        headers.insert(0, (b"content-length", b"%d" % len(body)))
    status = draw(st.sampled_from([103, 200, 202, 204, 304, 404, 503]))
    return {"type": WHOLE_RESPONSE, "status": status, "headers": headers, "body": body}


@st.composite
def sent(draw: st.DrawFn) -> Messages:
    whole, other = draw(whole_answers()), draw(whole_answers())
    start, body = in_asgi(other)
    return draw(
        st.sampled_from(
            [
                [whole],
                [whole, other],
                [start, whole],
                [start, body, whole],
                [whole, body],
                [start, {**body, "more_body": True}, body],
                [{"type": "http.response.start", "status": 200}, body],
            ]
        )
    )


def plain(headers: list[tuple[bytes, bytes]], body: bytes = b"abc") -> Messages:
    return [{"type": WHOLE_RESPONSE, "status": 202, "headers": headers, "body": body}]


@given(method=st.sampled_from(["POST", "GET", "HEAD"]), keep_alive=st.booleans(), messages=sent())
@example(method="POST", keep_alive=True, messages=plain([(b"content-length", b"3")]))
@example(method="POST", keep_alive=True, messages=plain([(b"content-length", b"2")]))
@example(method="POST", keep_alive=True, messages=plain([(b"content-length", b"3")] * 2))
@example(method="POST", keep_alive=True, messages=plain([(b"x", b"a\r\nb: c"), (b"content-length", b"3")]))
def test_an_answer_is_uvicorns_byte_for_byte(method: str, keep_alive: bool, messages: Messages) -> None:
    """A whole answer is what uvicorn makes of the same in ASGI's messages: bytes, end of the connection, errors."""
    assert run(outcome(ours, method, keep_alive, messages)) == run(
        outcome(theirs, method, keep_alive, messages)
    )


@given(answer=whole_answers(), method=st.sampled_from(["POST", "GET"]))
def test_what_is_packed_is_what_uvicorn_writes(answer: dict[str, Any], method: str) -> None:
    """Or nothing is."""
    packed = pack(answer["status"], [*DATE, *answer["headers"]], answer["body"])
    if packed is not None:
        assert run(outcome(theirs, method, True, [answer])) == (packed, False, 1, True, True, None)


def test_nearly_every_answer_is_packed() -> None:
    """Whatever the gateway itself sends; otherwise the fast way would be nobody's."""
    headers = ((b"content-type", b"application/json"), (b"content-length", b"2"), (b"x-tracking-id", b"a"))
    for status in (202, 401, 422, 503):
        assert pack(status, (*DATE, *headers), b"ok") is not None


def test_a_whole_answer_is_one_write() -> None:
    """Head and body leave together, at the end of the iteration."""
    transport = Transport()

    async def answer() -> None:
        cycle = ours(transport, lambda: None, "POST", True)
        await cycle.send(plain([(b"content-length", b"3")])[0])
        assert transport.writes == []
        await asyncio.sleep(0)

    run(answer())
    assert len(transport.writes) == 1
    assert transport.writes[0].endswith(b"content-length: 3\r\n\r\nabc")


def test_a_client_that_takes_nothing_is_not_written_to() -> None:
    """Its answer waits until it does; one that is gone gets none."""
    transport = Transport()

    async def answer() -> None:
        cycle = ours(transport, lambda: None, "POST", True)
        cycle.flow.pause_writing()
        sending = asyncio.create_task(cycle.send(plain([(b"content-length", b"3")])[0]))
        await asyncio.sleep(0.01)
        assert transport.writes == []
        cycle.flow.resume_writing()
        await sending
        assert b"".join(transport.writes).endswith(b"abc")
        gone = ours(transport, lambda: None, "POST", True)
        gone.disconnected = True
        await gone.send(plain([(b"content-length", b"3")])[0])
        await asyncio.sleep(0)
        assert b"".join(transport.writes).count(b"abc") == 1

    run(answer())


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"\x00", b"\x7f"], ids=repr)
def test_a_value_cannot_begin_a_line_of_its_own(value: bytes) -> None:
    """It is not packed; uvicorn refuses it."""
    headers = ((b"content-length", b"0"), (b"x-own", value))
    assert pack(202, headers, b"") is None


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    "header", [("x", b"a"), (b"x", "a"), (b"x", None), (1, 2), (b"x", b"a\nb")], ids=repr
)
def test_a_header_that_is_none_leaves_room_for_another_answer(header: Any, keep_alive: bool) -> None:
    """Whatever it is: nothing has left, and the next answer does."""
    (good,) = plain([(b"content-length", b"3")])
    (bad,) = plain([(b"content-length", b"3"), header])
    transport = Transport()

    async def answer() -> None:
        cycle = ours(transport, lambda: None, "POST", keep_alive)
        with pytest.raises((RuntimeError, TypeError, AttributeError)):
            await cycle.send(bad)
        await cycle.send(good)
        await asyncio.sleep(0)

    run(answer())
    written = b"".join(transport.writes)
    assert written.count(b"HTTP/1.1 ") == 1
    assert written.endswith(b"\r\n\r\nabc")


def test_names_are_remembered_only_up_to_a_bound() -> None:
    """An operator's stage may make them up, one for each request."""
    for number in range(3000):
        assert pack(202, ((b"content-length", b"0"), (b"x-%d" % number, b"")), b"") is not None
    assert cycle._begin.cache_info().currsize <= 1000


async def received(*steps: Callable[[Cycle], None]) -> list[dict[str, Any]]:
    """What an application is told, one message before each step and one at the end."""
    cycle = ours(Transport(), lambda: None, "POST", True)
    found = []
    for step in steps:
        step(cycle)
        found.append(await asyncio.wait_for(cycle.receive(), 1))
    return found


def arrive(body: bytes, *, more: bool) -> Callable[[Cycle], None]:
    def step(cycle: Cycle) -> None:
        cycle.body += body
        cycle.more_body = more
        cycle.message_event.set()

    return step


def go(cycle: Cycle) -> None:
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
    await asyncio.sleep(0)
    assert not tasks
    return transport


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError


async def fails_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"1")]})
    raise LookupError


async def ends_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"1")]})


async def does_nothing(scope: Any, receive: Any, send: Any) -> None:
    """As a boundary whose client is gone."""


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send(plain([(b"content-length", b"3")])[0])


async def answers_and_fails(scope: Any, receive: Any, send: Any) -> None:
    await answers(scope, receive, send)
    raise LookupError


@pytest.mark.parametrize(
    ("app", "written", "is_closed", "is_logged"),
    [
        (fails, b"", True, True),
        (fails_in_the_middle, b"HTTP/1.1 403 ", True, True),
        (ends_in_the_middle, b"HTTP/1.1 403 ", True, False),
        (does_nothing, b"", True, False),
        (answers, b"HTTP/1.1 202 ", False, False),
        (answers_and_fails, b"HTTP/1.1 202 ", False, True),
    ],
)
def test_without_a_whole_answer_the_connection_ends(
    app: Any, written: bytes, is_closed: bool, is_logged: bool, lines: Lines
) -> None:
    """The client must not wait for the rest; what has failed is logged with its traceback."""
    transport = run(served(app))
    assert transport.is_closed == is_closed
    assert b"".join(transport.writes)[: len(b"HTTP/1.1 403 ")] == written
    logged = [line for line in lines.all() if "outside of its boundary" in line["message"]]
    assert len(logged) == is_logged
    if is_logged:
        assert "LookupError" in str(logged)


def test_a_request_that_is_cut_off_ends_its_connection() -> None:
    """Its cancellation is the server's own: nobody is told of it, and the task is gone."""

    async def cut_off() -> Transport:
        transport = Transport()
        tasks: set[asyncio.Task[None]] = set()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        ours(transport, lambda: None, "POST", True).begin(waits, asyncio.get_running_loop(), tasks)
        (task,) = tasks
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not tasks
        return transport

    assert run(cut_off()).is_closed


def test_a_failure_leaves_no_reference_cycle_behind(lines: Lines) -> None:
    """What it refers to would wait for the garbage collector."""

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
