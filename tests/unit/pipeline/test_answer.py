"""Answers, and the form in which a store keeps them."""

from __future__ import annotations

import json

import pytest

from pipeline.answer import JSON, Answer, Reply, accepted
from schemas import load
from tests.support.asgi import Exchange

TRACKING_ID = "00000000-0000-4000-8000-000000000000"


def test_a_202_has_exactly_the_three_members() -> None:
    """The accepted answer is what its schema says, with the tracking_id it was made for."""
    assert accepted(TRACKING_ID).status == 202
    document = json.loads(accepted(TRACKING_ID).body)
    assert load("accepted").violations(document) == []
    assert document["tracking_id"] == TRACKING_ID


def test_a_plain_202_is_kept_in_two_bytes() -> None:
    """The commonest answer takes no room in the store."""
    packed = accepted(TRACKING_ID).pack(TRACKING_ID)
    assert packed == b"v1"
    assert Answer.unpack(packed, TRACKING_ID) == accepted(TRACKING_ID)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(422, b'{"error_code":"INVALID_PAYLOAD"}'),
        Answer(202, b"queued", b"text/plain; charset=utf-8"),
        Answer(202, accepted("another").body),
        Answer(409, b""),
        Answer(200, b"v1"),
        Answer(200, b"\n\r\n\0 200 text/html\n"),
    ],
    ids=lambda answer: repr(answer.body[:20]),
)
def test_what_is_unpacked_is_what_was_packed(answer: Answer) -> None:
    """Status, body and content type survive the store byte for byte."""
    assert Answer.unpack(answer.pack(TRACKING_ID), TRACKING_ID) == answer


def test_headers_of_one_answer_are_not_kept() -> None:
    """A replay repeats status, body and content type, not what concerned the first answer only."""
    packed = Answer(409, b"{}", headers=((b"retry-after", b"1"),)).pack(TRACKING_ID)
    assert Answer.unpack(packed, TRACKING_ID).headers == ()


async def test_an_answer_is_sent_whole_with_its_length() -> None:
    """The two ASGI messages carry status, content type, length, the answer's own headers and the body."""
    exchange = Exchange()
    await Answer(409, b"{}", headers=((b"retry-after", b"1"),)).send(exchange.send)
    assert exchange.status == 409
    assert exchange.headers == {"content-type": "application/json", "content-length": "2", "retry-after": "1"}
    assert exchange.body == b"{}"


async def test_the_messages_of_an_answer_become_one() -> None:
    """Its parts are joined, and its headers kept but for those that describe the body."""
    told: list[str] = []
    reply = Reply(lambda: told.append("there"))
    headers = [
        (b"X-Own", b"1"),
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"5"),
        (b"x-own", b"2"),
    ]
    await reply({"type": "http.response.start", "status": 418, "headers": headers})
    await reply({"type": "http.response.body", "body": b"te", "more_body": True})
    await reply({"type": "http.response.body", "more_body": True})
    assert (reply.answer, told) == (None, [])
    await reply({"type": "http.response.body", "body": b"apo"})
    assert reply.whole() == Answer(418, b"teapo", b"text/plain", ((b"X-Own", b"1"), (b"x-own", b"2")))
    assert told == ["there"]


@pytest.mark.parametrize(("body", "content_type"), [(b"{}", JSON), (b"", b"")])
async def test_an_answer_that_does_not_describe_its_body(body: bytes, content_type: bytes) -> None:
    """Is taken for JSON, where there is any."""
    reply = Reply()
    await reply({"type": "http.response.start", "status": 200})
    await reply({"type": "http.response.body", "body": body})
    assert reply.whole() == Answer(200, body, content_type)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_by_its_nature(status: int) -> None:
    """Leaves without one and without a length: what follows its head a client takes for the next answer."""
    reply = Reply()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"3"), (b"etag", b'"a"')]
    await reply({"type": "http.response.start", "status": status, "headers": headers})
    await reply({"type": "http.response.body", "body": b"abc"})
    answer = reply.whole()
    assert (answer.status, answer.body, answer.all_headers()) == (status, b"", [(b"etag", b'"a"')])


async def test_an_answer_has_one_length() -> None:
    """That of its parts together, whatever they were to be framed by; headers may come from any iterable."""
    reply = Reply()
    headers = iter([(b"Transfer-Encoding", b"chunked"), (b"x-own", b"1")])
    await reply({"type": "http.response.start", "status": 200, "headers": headers})
    await reply({"type": "http.response.body", "body": b"{}"})
    assert reply.whole().all_headers() == [
        (b"content-type", JSON),
        (b"content-length", b"2"),
        (b"x-own", b"1"),
    ]


@pytest.mark.parametrize("status", [100, 199, 600, "200", None], ids=repr)
async def test_a_status_that_ends_no_request_is_a_bug(status: object) -> None:
    """Of the stage that sends it: its sender would wait on, or be cut off."""
    with pytest.raises(RuntimeError, match="no status of an answer"):
        await Reply()({"type": "http.response.start", "status": status})


async def test_a_body_without_a_beginning_is_a_bug() -> None:
    """Of the stage that sends it, which the message says."""
    with pytest.raises(RuntimeError, match=r"'http\.response\.body' came before 'http\.response\.start'"):
        await Reply()({"type": "http.response.body"})
