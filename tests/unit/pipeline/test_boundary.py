"""The outermost boundary."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.types import Message, Receive, Scope, Send

from pipeline import boundary as boundary_module
from pipeline import codes
from pipeline.answer import Answer, accepted
from pipeline.boundary import CLIENT_CLOSED_REQUEST, WHOLE_RESPONSE, Boundary
from pipeline.context import Context
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.stage import Stage, timed
from pipeline.timing.deadline import Deadlines
from schemas import load
from tests.support.asgi import Ears, Exchange, Inner, StandingClock


def around(inner: Any, ears: Ears | None = None, **options: Any) -> Boundary:
    return Boundary(inner, StandingClock(), ears or Ears(), **options)


def told(ears: Ears) -> tuple[int, str | None]:
    """The status and the code of the one request that was told."""
    ((_, status, failure),) = ears.answers
    return status, failure.code.name if failure else None


async def test_every_answer_has_the_tracking_id() -> None:
    """The header is there on an answer that a stage sent, beside the headers that stages asked for."""
    ears = Ears()

    class Asking(Inner):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            Context.of(scope).headers[b"ratelimit"] = b"x"
            await super().__call__(scope, receive, send)

    inner = Asking()
    exchange = await Exchange().arriving_at(around(inner, ears))
    assert exchange.status == 202
    assert exchange.headers["x-tracking-id"] == inner.context.tracking_id == exchange.json["tracking_id"]
    assert exchange.headers["ratelimit"] == "x"
    assert ears.answers == [(inner.context, 202, None)]


async def test_an_answer_of_a_stage_needs_no_headers_of_its_own() -> None:
    """ASGI leaves them out where there are none."""
    ears = Ears()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 403})
        await send({"type": "http.response.body"})

    exchange = await Exchange().arriving_at(around(inner, ears))
    assert exchange.status == 403
    assert set(exchange.headers) == {"x-tracking-id", "content-length"}
    assert told(ears) == (403, None)


@pytest.mark.parametrize("code", codes.ALL, ids=lambda code: code.name)
async def test_what_is_raised_is_answered_in_one_form(code: codes.Code) -> None:
    """Whatever stage refuses, the ErrorResponse has the request's tracking_id, in the body and in the header."""
    ears = Ears()
    exchange = await Exchange().arriving_at(around(Inner(Refused(code)), ears))
    assert load("error").violations(exchange.json) == []
    assert (exchange.status, exchange.json["error_code"]) == (code.status, code.name)
    assert exchange.headers["x-tracking-id"] == exchange.json["tracking_id"]
    assert exchange.headers["content-type"] == "application/json"
    assert told(ears) == (code.status, code.name)


async def test_a_bug_is_an_internal_error_without_a_trace() -> None:
    """The client sees none of it; telemetry gets the cause."""
    ears, bug = Ears(), RuntimeError("secret detail")
    exchange = await Exchange().arriving_at(around(Inner(bug), ears))
    assert (exchange.status, exchange.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert b"secret" not in exchange.body
    assert b"RuntimeError" not in exchange.body
    ((_, _, failure),) = ears.answers
    assert failure is not None
    assert failure.__cause__ is bug


async def test_a_body_that_does_not_arrive_is_a_timeout() -> None:
    """Reading past its deadline is 408, and the connection is closed: its rest may still come."""
    deadlines = Deadlines(body_seconds=0.01)

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await Context.of(scope).payload(asyncio.Event().wait)  # type: ignore[arg-type]  # It never gives a message.

    ears = Ears()
    exchange = await Exchange().arriving_at(around(reading, ears, deadlines=deadlines))
    assert (exchange.status, exchange.json["error_code"]) == (408, "REQUEST_TIMEOUT")
    assert exchange.headers["connection"] == "close"
    assert told(ears) == (408, "REQUEST_TIMEOUT")


async def test_work_that_takes_too_long_is_unavailable() -> None:
    """Past its deadline a request is refused before its claim's lease is over."""
    deadlines = Deadlines(request_seconds=0.01)

    async def working(scope: Scope, receive: Receive, send: Send) -> None:
        await Context.of(scope).payload(receive)
        await asyncio.sleep(5)

    exchange = await Exchange().arriving_at(around(working, deadlines=deadlines))
    assert (exchange.status, exchange.json["error_code"]) == (503, "SERVICE_UNAVAILABLE")
    assert exchange.headers["retry-after"] == "1"


async def test_the_deadline_becomes_what_the_stages_make_of_it() -> None:
    """A stage that knows better than "not served" what the deadline interrupted is believed."""
    deadlines = Deadlines(body_seconds=0.01)

    async def publishing(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError as error:
            raise OutcomeUnknown from error

    exchange = await Exchange().arriving_at(around(publishing, deadlines=deadlines))
    assert exchange.json["error_code"] == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize(
    "failure",
    [
        Refused(codes.PROVIDER_DISABLED, details={"providers": ["off"]}),
        Refused(codes.TOO_MANY_REQUESTS, retry_after=60),
        Refused(codes.SERVICE_UNAVAILABLE, retry_after=1),
        RuntimeError("bug"),
        TimeoutError(),
    ],
    ids=repr,
)
async def test_what_may_be_published_is_never_called_refused(failure: Exception) -> None:
    """Whatever replaced the unknown outcome on the way out: the sender repeats it with the same key."""
    ears = Ears()
    if isinstance(failure, Refused):
        failure.stage = "quota"
    exchange = await Exchange().arriving_at(around(Inner(failure, begins_to_publish=True), ears))
    assert (exchange.status, exchange.json["error_code"]) == (503, "OUTCOME_UNKNOWN")
    assert exchange.json["details"] is None
    assert exchange.headers["retry-after"] == "1"
    assert told(ears) == (503, "OUTCOME_UNKNOWN")
    ((_, _, unknown),) = ears.answers
    assert unknown is not None
    assert unknown.__cause__ is failure
    assert unknown.stage == getattr(failure, "stage", None)


async def test_an_unknown_outcome_keeps_its_cause() -> None:
    """What the terminal handler said of it is what the operators read."""
    ears, unknown = Ears(), OutcomeUnknown()
    await Exchange().arriving_at(around(Inner(unknown, begins_to_publish=True), ears))
    ((_, _, failure),) = ears.answers
    assert failure is unknown


async def test_the_deadline_after_a_publish_began_is_unknown() -> None:
    """Also where no stage made anything of it."""
    deadlines = Deadlines(request_seconds=0.01)

    async def publishing(scope: Scope, receive: Receive, send: Send) -> None:
        await Context.of(scope).payload(receive)
        Context.of(scope).may_be_published = True
        await asyncio.sleep(5)

    exchange = await Exchange().arriving_at(around(publishing, deadlines=deadlines))
    assert exchange.json["error_code"] == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize(
    "failure", [RuntimeError("bug"), Refused(codes.SERVICE_UNAVAILABLE), OutcomeUnknown()], ids=repr
)
async def test_what_fails_after_the_confirm_is_accepted(failure: Exception) -> None:
    """Never a 5xx after a confirm; the operators learn of the failure all the same."""
    ears = Ears()
    inner = Inner(failure, publishes=True)
    exchange = await Exchange().arriving_at(around(inner, ears))
    assert (exchange.status, exchange.json["tracking_id"]) == (202, inner.context.tracking_id)
    ((_, status, told_of),) = ears.answers
    assert status == 202
    assert told_of is not None
    assert failure in (told_of, told_of.__cause__)
    assert (told_of.code is codes.OUTCOME_UNKNOWN) is isinstance(failure, OutcomeUnknown)


async def test_a_timeout_of_somebody_else_is_a_bug() -> None:
    """A TimeoutError that our deadline did not raise is not mistaken for it."""
    exchange = await Exchange().arriving_at(around(Inner(TimeoutError())))
    assert exchange.json["error_code"] == "INTERNAL_ERROR"


async def test_a_client_that_went_away_is_answered_nothing() -> None:
    """Nothing is sent, and telemetry learns of it as 499."""

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await Context.of(scope).payload(receive)

    ears = Ears()
    exchange = await Exchange(()).arriving_at(around(reading, ears))
    assert exchange.sent == []
    assert told(ears) == (CLIENT_CLOSED_REQUEST, None)


async def test_an_answer_that_has_begun_is_not_followed_by_another() -> None:
    """What fails after the status left is told, but cannot be answered any more."""
    ears = Ears()

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await Answer(200, b"{}").send(send)
        raise RuntimeError("late")

    exchange = await Exchange().arriving_at(around(failing, ears))
    assert [message["type"] for message in exchange.sent] == ["http.response.start", "http.response.body"]
    assert told(ears) == (200, "INTERNAL_ERROR")


async def test_a_cancelled_request_is_told_and_stays_cancelled() -> None:
    """The server that is ended by force stays so, and the sender gets a true answer in the one form."""
    ears = Ears()
    started = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await asyncio.sleep(60)

    exchange = Exchange()
    serving = asyncio.create_task(exchange.arriving_at(around(waiting, ears)))
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert (exchange.status, exchange.headers["retry-after"]) == (503, "1")
    assert told(ears)[0] == 503


async def test_every_request_is_told_once() -> None:
    """Each of many has an id of its own."""
    ears = Ears()
    boundary = around(Inner(), ears)
    await asyncio.gather(*(Exchange().arriving_at(boundary) for _ in range(10)))
    assert len({context.tracking_id for context, _, _ in ears.answers}) == 10
    assert all(uuid.UUID(context.tracking_id) for context, _, _ in ears.answers)


async def test_a_failure_keeps_its_own_headers() -> None:
    """WWW-Authenticate, Retry-After and Allow reach the client."""
    failure: NotAccepted = Refused(codes.METHOD_NOT_ALLOWED, headers=((b"allow", b"POST"),), retry_after=3)
    exchange = await Exchange().arriving_at(around(Inner(failure)))
    assert (exchange.headers["allow"], exchange.headers["retry-after"]) == ("POST", "3")


async def test_what_is_no_request_passes_through() -> None:
    """The lifespan reaches the application untouched, without a context."""
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing() -> Message:
        raise AssertionError

    async def nowhere(message: Message) -> None:
        raise AssertionError

    ears = Ears()
    await around(application, ears)({"type": "lifespan"}, nothing, nowhere)
    assert seen == [{"type": "lifespan"}]
    assert ears.answers == []


async def test_draining_hurries_the_bodies_that_still_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process ends, a body gets seconds, not its whole time; what has its body is left alone."""
    monkeypatch.setattr(boundary_module, "_DRAIN_BODY_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        context = Context.of(scope)
        await context.payload(receive)
        await go_on.wait()
        await accepted(context.tracking_id).send(send)

    draining = around(inner)
    dripping = Exchange()
    dripping.receive = asyncio.Event().wait  # type: ignore[assignment,method-assign]  # It never gives a message.
    requests = [asyncio.create_task(one.arriving_at(draining)) for one in (dripping, Exchange())]
    await asyncio.sleep(0)
    draining.drain()
    assert (await requests[0]).status == 408
    await asyncio.sleep(0.1)
    assert not requests[1].done()
    go_on.set()
    assert (await requests[1]).status == 202


async def test_a_request_is_counted_while_it_is_served() -> None:
    """And no longer; and it is a send where all are."""
    counted: list[int] = []

    async def looking(scope: Scope, receive: Receive, send: Send) -> None:
        counted.append(outermost.in_flight)
        assert Context.of(scope).is_send
        raise Refused(codes.UNAUTHORIZED)

    outermost = around(looking, is_send=True)
    await Exchange().arriving_at(outermost)
    assert (counted, outermost.in_flight) == ([1], 0)


async def test_one_more_than_the_limit_is_refused_at_once() -> None:
    """It is refused without reaching the inner app, is told when to come back, and later ones are served again."""
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await Answer(200, b"{}").send(send)

    ears = Ears()
    boundary = around(slow, ears, most_in_flight=2)
    served = [asyncio.create_task(Exchange().arriving_at(boundary)) for _ in range(2)]
    await asyncio.sleep(0)
    refused = await Exchange().arriving_at(boundary)
    assert (refused.status, refused.json["error_code"]) == (503, "SERVICE_UNAVAILABLE")
    assert load("error").violations(refused.json) == []
    assert refused.headers["retry-after"] == "1"
    assert refused.json["message"].startswith("Too many requests are in flight. Nothing was sent")
    assert refused.headers["x-tracking-id"] == refused.json["tracking_id"]
    assert ears.overloads == [(refused.json["tracking_id"], "SERVICE_UNAVAILABLE")]
    go_on.set()
    assert [one.status for one in await asyncio.gather(*served)] == [200, 200]
    await Exchange().arriving_at(boundary)
    assert boundary.in_flight == 0
    assert len(ears.overloads) == 1


async def test_a_request_that_fails_is_counted_out() -> None:
    """A failure inside leaves no phantom in flight."""
    boundary = around(Inner(RuntimeError("bug")), most_in_flight=1)
    assert [(await Exchange().arriving_at(boundary)).status for _ in range(3)] == [500, 500, 500]
    assert boundary.in_flight == 0


async def test_a_request_that_nobody_answers_is_a_bug() -> None:
    """Its sender must not be left waiting."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        """Neither answers nor raises."""

    ears = Ears()
    exchange = await Exchange().arriving_at(around(silent, ears))
    assert (exchange.status, exchange.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert told(ears) == (500, "INTERNAL_ERROR")


async def test_a_whole_answer_is_one_message_where_the_server_takes_it() -> None:
    """The same status, headers and body as in the two messages of ASGI."""
    plain = await Exchange().arriving_at(around(Inner(Answer(200, b"{}"))))
    whole = Exchange()
    whole.scope["extensions"] = {WHOLE_RESPONSE: {}}
    await whole.arriving_at(around(Inner(Answer(200, b"{}"))))
    (message,) = whole.sent
    assert (message["type"], message["status"], message["body"]) == (WHOLE_RESPONSE, 200, b"{}")
    assert [name for name, _ in message["headers"]] == [name for name, _ in plain.sent[0]["headers"]]


@pytest.mark.parametrize(
    "refusal",
    [Refused(codes.NOT_FOUND, details={"words": {"a", "set"}}), Refused(codes.NOT_FOUND, "\ud800")],
    ids=["details", "message"],
)
async def test_a_refusal_that_cannot_be_rendered_is_a_bug(refusal: Refused) -> None:
    """Of an operator's stage: its sender is answered all the same."""
    ears = Ears()
    exchange = await Exchange().arriving_at(around(Inner(refusal), ears))
    assert (exchange.status, exchange.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert told(ears) == (500, "INTERNAL_ERROR")


async def test_a_failure_is_named_for_the_stage_that_was_entered_last() -> None:
    """A stage refuses before it hands over, so whoever raised it is the last that was entered."""
    ears = Ears()
    stages = [("outer", Middleware(Stage)), ("inner", Middleware(Stage))]
    app: Any = Inner(Refused(codes.UNAUTHORIZED))
    for middleware in reversed(timed(stages, ears)):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    await Exchange().arriving_at(around(app, ears))
    ((_, _, failure),) = ears.answers
    assert failure is not None
    assert failure.stage == "inner"
    assert [stage for stage, _ in ears.left] == ["inner", "outer"]


async def test_a_client_that_is_slow_to_take_its_answer_costs_no_stage_time() -> None:
    ears = Ears()
    (mark, stage) = timed([("slow?", Middleware(Stage))], ears)
    app: Any = Inner()
    for middleware in (stage, mark):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    told_before: list[list[str]] = []

    class Slow(Exchange):
        async def send(self, message: Message) -> None:
            told_before.append([stage for stage, _ in ears.left])
            await super().send(message)

    await Slow().arriving_at(around(app, ears))
    assert told_before == [["slow?"], ["slow?"]]
    assert [stage for stage, _ in ears.left] == ["slow?"]


@pytest.mark.parametrize(
    ("inner", "status"),
    [(Inner(publishes=True), 202), (Inner(Refused(codes.TOO_MANY_REQUESTS, retry_after=60)), 429)],
    ids=["accepted", "refused"],
)
async def test_an_answer_whose_headers_are_none_leaves_without_them(inner: Inner, status: int) -> None:
    """Servers refuse malformed headers: the sender must not take that for what became of the message."""
    ears = Ears()

    class Strict(Exchange):
        async def send(self, message: Message) -> None:
            if any(b"\n" in value for _, value in message.get("headers", ())):
                raise RuntimeError("Invalid HTTP header value.")
            await super().send(message)

    class Careless(Stage):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            Context.of(scope).headers[b"x-note"] = b"two\nlines"
            await super().__call__(scope, receive, send)

    exchange = await Strict().arriving_at(around(Careless(inner), ears))
    assert exchange.status == status
    assert set(exchange.headers) == {"content-type", "content-length", "x-tracking-id"}
    assert exchange.json["tracking_id"] == exchange.headers["x-tracking-id"] == inner.context.tracking_id
    ((_, told_status, failure),) = ears.answers
    assert failure is not None
    assert (told_status, failure.code.name) == (status, "INTERNAL_ERROR")
    assert isinstance(failure.__cause__, RuntimeError)


async def test_a_content_type_that_is_none_leaves_out_itself() -> None:
    """It is a header, too; the rest of the answer is as good without it."""
    ears = Ears()

    class Strict(Exchange):
        async def send(self, message: Message) -> None:
            if any(b"\n" in value for _, value in message.get("headers", ())):
                raise RuntimeError("Invalid HTTP header value.")
            await super().send(message)

    inner = Inner(Answer(403, b"no", b"text/plain\nx: y"))
    exchange = await Strict().arriving_at(around(inner, ears))
    assert (exchange.status, exchange.body) == (403, b"no")
    assert set(exchange.headers) == {"content-length", "x-tracking-id"}
    assert told(ears) == (403, "INTERNAL_ERROR")
