"""The body of a request."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from starlette.types import Message

from pipeline import payload as payload_module
from pipeline.failures import Refused
from pipeline.payload import MAX_BODY_BYTES, ClientDisconnected, parse, read
from tests.support.asgi import BODY, JSON, Exchange

REQUEST = ("POST", "/api/v1/sms/send")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json ;charset=utf-8",
        "application/vnd.acme+json",
        "application/a+json",
        "application/problem+json; v=1",
    ],
)
async def test_a_body_that_calls_itself_json_is_read(content_type: str) -> None:
    """Case and parameters of the media type do not matter, and ``+json`` is JSON."""
    exchange = Exchange(headers={"content-type": content_type})
    assert await read(exchange.context.header, exchange.receive) == BODY


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "text/json"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/+json"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=str,
)
async def test_any_other_body_is_refused_unread(headers: dict[str, str]) -> None:
    """A media type that is not JSON, and a coding that nobody undoes, are refused before a byte is awaited."""
    exchange = Exchange(headers=headers)
    with pytest.raises(Refused, match="UNSUPPORTED_MEDIA_TYPE"):
        await read(exchange.context.header, exchange.receive)
    assert len(exchange.incoming) == 1


@pytest.mark.parametrize("chunk", [MAX_BODY_BYTES, 1000, 1])
async def test_a_body_of_16_kib_is_read_whatever_its_pieces(chunk: int) -> None:
    """The limit is inclusive, and the pieces come together in order."""
    assert MAX_BODY_BYTES == 16384
    body = bytes(position % 251 for position in range(MAX_BODY_BYTES))
    exchange = Exchange([body[start : start + chunk] for start in range(0, len(body), chunk)])
    assert await read(exchange.context.header, exchange.receive) == body


@pytest.mark.parametrize("name", ["content-type", "content-encoding", "content-length"])
async def test_white_space_around_a_header_of_the_body_is_no_part_of_it(name: str) -> None:
    """As around every other header (RFC 9110, 5.5)."""
    headers = JSON | {"content-encoding": "identity", "content-length": str(len(BODY))}
    exchange = Exchange(headers=headers | {name: f" {headers[name]}\t"})
    assert await read(exchange.context.header, exchange.receive) == BODY


@pytest.mark.parametrize("pieces", [[MAX_BODY_BYTES + 1], [MAX_BODY_BYTES, 1], [1] * (MAX_BODY_BYTES + 1)])
async def test_one_byte_more_is_too_large(pieces: list[int]) -> None:
    """By whatever pieces it comes: it is read to its end, refused, and the connection is closed."""
    exchange = Exchange([b"x" * size for size in pieces])
    with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE") as refused:
        await read(exchange.context.header, exchange.receive)
    assert refused.value.headers == ((b"connection", b"close"),)
    assert exchange.incoming == []


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    """Of an endless body about a mebibyte is thrown away, so that our answer arrives, and then it is refused."""
    exchange = Exchange([b"x" * 65536] * 100)
    with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE"):
        await read(exchange.context.header, exchange.receive)
    assert 80 <= len(exchange.incoming) < 90


async def test_a_body_that_declares_too_much_is_refused_though_it_drips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who announces too much and sends a byte now and then has its answer after a second, not after ten."""
    monkeypatch.setattr(payload_module, "_DISCARD_SECONDS", 0.05)
    read_so_far = 0

    async def dripping() -> Message:
        nonlocal read_so_far
        await asyncio.sleep(0.01)
        read_so_far += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    exchange = Exchange(headers=JSON | {"content-length": str(MAX_BODY_BYTES + 1)})
    async with asyncio.timeout(5):
        with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE") as refused:
            await read(exchange.context.header, dripping)
    assert refused.value.headers == ((b"connection", b"close"),)
    assert read_so_far > 0


async def test_a_body_that_declares_too_much_is_read_to_its_end_if_it_comes() -> None:
    """A client that is still writing when we close would lose our answer."""
    body = b"x" * (MAX_BODY_BYTES + 1)
    exchange = Exchange([body[:10], body[10:]], headers=JSON | {"content-length": str(len(body))})
    with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE"):
        await read(exchange.context.header, exchange.receive)
    assert exchange.incoming == []


async def test_a_body_that_declares_too_much_is_refused_however_little_comes() -> None:
    """The declared length is what counts, not what follows."""
    exchange = Exchange(b"{}", headers=JSON | {"content-length": str(MAX_BODY_BYTES + 1)})
    with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE"):
        await read(exchange.context.header, exchange.receive)


async def test_a_client_that_waits_to_continue_is_refused_by_the_declared_length() -> None:
    """Who asks with Expect: 100-continue learns of the limit before it sends its body."""
    headers = JSON | {"expect": "100-continue", "content-length": str(MAX_BODY_BYTES + 1)}
    exchange = Exchange(headers=headers)
    with pytest.raises(Refused, match="PAYLOAD_TOO_LARGE"):
        await read(exchange.context.header, exchange.receive)
    assert len(exchange.incoming) == 1
    small = Exchange(headers=JSON | {"expect": "100-continue", "content-length": str(len(BODY))})
    assert await read(small.context.header, small.receive) == BODY


@pytest.mark.parametrize("pieces", [[], [b"{", b'"to"']], ids=str)
async def test_a_client_that_goes_away_is_told_nothing(pieces: list[bytes]) -> None:
    """A body that breaks off is no body: nothing of it is judged."""
    exchange = Exchange(pieces)
    for message in exchange.incoming:
        message["more_body"] = True
    with pytest.raises(ClientDisconnected):
        await read(exchange.context.header, exchange.receive)


@pytest.mark.parametrize(
    "raw",
    [b"{}", b"[1, 2]", b' {"a": 1}\n', b'"text"', b"null", b'{"a": ":", "b": "::"}', b'{"a": {"a": 1}}'],
    ids=repr,
)
def test_json_is_parsed(raw: bytes) -> None:
    """Any JSON text is a document; what it may hold is for the schema to say."""
    parsed = parse(raw)
    assert parsed.problem is None
    assert parsed.raw == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  ",
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b"NaN",
        b"[Infinity]",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"a": 1e999}',
        b"[" * 8000 + b"]" * 8000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_not_json_has_a_problem(raw: bytes) -> None:
    """Neither another encoding, nor JavaScript, nor half a character passes for JSON."""
    parsed = parse(raw)
    assert parsed.problem == "must be a JSON text in UTF-8"
    assert parsed.document is None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"to": "1", "to": "2"}',
        b'{"to": "1", "t\\u006f": "2"}',
        b'{"a": {"b": 1, "b": 1}}',
        b'[{"b": 1, "b": 1}]',
        b'{"a": [{"x": 0}, {"b": 1, "b": 1}]}',
        b'{"a": 1, "a": ":"}',
    ],
    ids=repr,
)
def test_a_member_twice_is_a_problem(raw: bytes) -> None:
    """Readers would disagree on which of the two counts, at whatever depth, however the name is spelled."""
    problem = parse(raw).problem
    assert problem is not None
    assert "no member twice" in problem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":[2]}', b' { "b" : [ 2 ] , "a" : 1 } '),
        (b'{"a":"\\u0041"}', b'{"a":"A"}'),
        (b'{"a":{"x":1,"y":2}}', b'{"a":{"y":2,"x":1}}'),
    ],
    ids=repr,
)
def test_the_same_payload_has_the_same_fingerprint(one: bytes, other: bytes) -> None:
    """Order of members, white space and escapes do not make another payload."""
    assert parse(one).fingerprint(*REQUEST) == parse(other).fingerprint(*REQUEST)


@pytest.mark.parametrize(
    "other",
    [b'{"a":2}', b'{"b":1}', b'{"a":1.0}', b'{"a":"1"}', b'{"a":true}', b'{"a":1,"b":null}', b"[1]", b"{"],
    ids=repr,
)
def test_another_payload_has_another_fingerprint(other: bytes) -> None:
    """Any change of a name, a value or a type makes another payload."""
    assert parse(b'{"a":1}').fingerprint(*REQUEST) != parse(other).fingerprint(*REQUEST)


def test_what_does_not_parse_is_known_by_its_bytes() -> None:
    """The retry of a broken body is the same request; another broken body is not."""
    assert parse(b"{").fingerprint(*REQUEST) == parse(b"{").fingerprint(*REQUEST)
    assert parse(b"{").fingerprint(*REQUEST) != parse(b"{ ").fingerprint(*REQUEST)


def test_a_fingerprint_never_changes() -> None:
    """Stores hold fingerprints of earlier releases: SHA-256 over method, route and canonical body, for ever."""
    expected = hashlib.sha256(b'POST /api/v1/sms/send\n{"a":1,"b":"\xc3\xa9"}').digest()
    assert parse('{"b": "é", "a": 1}'.encode()).fingerprint(*REQUEST) == expected
