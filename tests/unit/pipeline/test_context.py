"""The context of one request."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.context import Context
from pipeline.facts import Client, Message
from pipeline.failures import Refused
from pipeline.payload import ClientDisconnected
from pipeline.timing.deadline import Deadlines
from tests.support.asgi import BODY, Exchange


@dataclass(frozen=True)
class Tenant:
    """A fact that only an operator's stages know."""

    name: str


async def test_a_context_is_found_again_by_its_scope() -> None:
    """Stages share what they know through the scope, not through anything global."""
    exchange = Exchange()
    made = exchange.context
    assert Context.of(exchange.scope) is made


async def test_every_request_has_a_tracking_id_of_its_own() -> None:
    """It is a random UUID from the moment of arrival."""
    first, second = Exchange().context, Exchange().context
    assert first.tracking_id != second.tracking_id
    assert uuid.UUID(first.tracking_id).version == 4


async def test_a_fact_is_looked_up_by_its_type() -> None:
    """A later fact of a type replaces the earlier one; an absent one is None by ``get`` and an error by index."""
    context = Exchange().context
    assert context.get(Client) is None
    with pytest.raises(KeyError):
        context[Client]
    context.add(Client("acme"))
    context.add(Client("other"))
    context.add(Tenant("east"))
    assert context[Client] == context.get(Client) == Client("other")
    assert context[Tenant].name == "east"
    assert context.get(Message) is None


async def test_a_header_that_comes_twice_is_joined() -> None:
    """Several fields of one name read as one list (RFC 9110, 5.3): no stage sees only the first of two keys."""
    exchange = Exchange()
    exchange.scope["headers"] = [(b"api-key", b"one"), (b"x", b"y"), (b"api-key", b"two")]
    assert exchange.context.header(b"api-key") == b"one, two"
    assert exchange.context.header(b"x") == b"y"
    assert exchange.context.header(b"absent") is None


async def test_an_empty_header_is_there() -> None:
    """An empty Idempotency-Key is a malformed one, not an absent one."""
    assert Exchange(headers={"idempotency-key": ""}).context.header(b"idempotency-key") == b""


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b" key", b"key"), (b"key \t", b"key"), (b"\t key \t ", b"key"), (b"a b", b"a b"), (b" \t", b"")],
    ids=repr,
)
async def test_white_space_around_a_header_is_no_part_of_it(sent: bytes, read: bytes) -> None:
    """Spaces and tabs around a value are the line's, not the value's (RFC 9110, 5.5); those inside are its own."""
    exchange = Exchange()
    exchange.scope["headers"] = [(b"api-key", sent)]
    assert exchange.context.header(b"api-key") == read


@pytest.mark.parametrize(
    ("values", "read"),
    [((b"one ", b" two"), b"one, two"), ((b"one", b""), b"one, "), ((b" ", b""), b", ")],
    ids=repr,
)
async def test_of_a_header_that_comes_twice_each_part_is_stripped(
    values: tuple[bytes, bytes], read: bytes
) -> None:
    """What joins them is the gateway's and stays, be a part empty: by it two keys are known for no key."""
    exchange = Exchange()
    exchange.scope["headers"] = [(b"api-key", value) for value in values]
    assert exchange.context.header(b"api-key") == read


async def test_many_headers_cost_no_more_each() -> None:
    """One that comes twice must not have all others looked through for each name."""

    class Counted(list[tuple[bytes, bytes]]):
        looks = 0

        def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
            self.looks += 1
            return super().__iter__()

    exchange = Exchange()
    headers = Counted([(b"x-%d" % number, b"") for number in range(1000)] + [(b"x-0", b"a")])
    exchange.scope["headers"] = headers
    assert exchange.context.header(b"x-0") == b", a"
    assert headers.looks <= 3


async def test_at_first_nothing_may_be_published() -> None:
    """What a request is in doubt about begins with a publish, or with a claim that it resumes."""
    context = Exchange().context
    assert not context.may_be_published
    assert not context.is_published
    assert not context.is_send


async def test_the_body_is_read_once() -> None:
    """Idempotency and validation share one reading and one parsing."""
    exchange = Exchange()
    with exchange.context.deadline:
        first = await exchange.context.payload(exchange.receive)
        assert await exchange.context.payload(exchange.receive) is first
    assert first.raw == BODY


async def test_a_request_has_its_own_time_from_its_body_on() -> None:
    """However long the body took, what is left to do has ``REQUEST_SECONDS``: less than a claim's lease."""
    exchange = Exchange()
    deadlines = Deadlines(body_seconds=0.05, request_seconds=60)
    context = Context(exchange.scope, deadlines)
    with context.deadline as deadline:
        await context.payload(exchange.receive)
        assert not context.is_reading
        await asyncio.sleep(0.1)
    assert not deadline.is_over


async def test_a_body_that_never_ends_is_cut_off() -> None:
    """The deadline for the body runs from arrival, and ``is_reading`` tells what it caught."""
    context = Context(Exchange().scope, Deadlines(body_seconds=0.01))
    with pytest.raises(TimeoutError), context.deadline:
        await context.payload(asyncio.Event().wait)  # type: ignore[arg-type]  # It never gives a message.
    assert context.is_reading


async def test_what_reading_raises_is_raised() -> None:
    """Neither a wrong media type nor a client that went away is hidden."""
    exchange = Exchange(headers={"content-type": "text/plain"})
    with pytest.raises(Refused, match="UNSUPPORTED_MEDIA_TYPE"):
        await exchange.context.payload(exchange.receive)
    gone = Exchange(())
    with gone.context.deadline, pytest.raises(ClientDisconnected):
        await gone.context.payload(gone.receive)


async def test_method_and_path_are_part_of_the_fingerprint() -> None:
    """One key on two routes is two different requests."""
    exchange, other = Exchange(), Exchange(path="/api/v2/sms/send")
    with exchange.context.deadline, other.context.deadline:
        body = await exchange.context.payload(exchange.receive)
        assert exchange.context.fingerprint(body) == exchange.context.fingerprint(body)
        assert exchange.context.fingerprint(body) != other.context.fingerprint(body)
