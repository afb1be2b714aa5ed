"""Every row of the contract's table of errors, over real sockets."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import schemas
from tests.support.gateways import NUMBER, SEND, TEXT, Backend, Gateway, key_of

Details = dict[str, Any] | None


def assert_refused(answer: httpx.Response, status: int, code: str) -> Details:
    """The one form of every error; returns its details."""
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    body = answer.json()
    assert schemas.load("error").violations(body) == []
    assert answer.headers["content-type"] == "application/json"
    assert body["tracking_id"] == answer.headers["x-tracking-id"]
    assert TEXT not in answer.text
    if status in (429, 503) or code == "IDEMPOTENCY_IN_PROGRESS":
        assert int(answer.headers["retry-after"]) >= 1
    details: Details = body["details"]
    return details


@pytest.mark.parametrize(
    "headers", [{}, {"API-Key": ""}, {"API-Key": "unknown"}, {"API-Key": key_of("gone")}]
)
def test_an_absent_an_unknown_and_an_inactive_key_read_alike(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    """The three kinds of a bad key get one answer, so that nobody learns which keys exist."""
    answer = gateway.http.post(SEND, json={"to": NUMBER, "text": TEXT}, headers=headers)
    assert assert_refused(answer, 401, "UNAUTHORIZED") is None
    assert answer.headers["www-authenticate"]
    unknown = gateway.http.post(SEND, json={}, headers={"API-Key": "another"})
    assert answer.json()["message"] == unknown.json()["message"]
    assert answer.headers.keys() == unknown.headers.keys()


INVALID: list[tuple[Any, set[tuple[str, str]]]] = [
    ({"to": "+14155552671\n", "text": "x"}, {("/to", "pattern")}),
    ({"to": "+١٤١٥٥٥٥", "text": "x"}, {("/to", "pattern")}),
    ({"to": "14155552671", "text": "x"}, {("/to", "pattern")}),
    ({"to": "+04155552671", "text": "x"}, {("/to", "pattern")}),
    ({"to": "+1", "text": "x"}, {("/to", "pattern")}),
    ({"to": "+1234567890123456", "text": "x"}, {("/to", "pattern")}),
    ({"to": " +14155552671", "text": "x"}, {("/to", "pattern")}),
    ({"to": 14155552671, "text": "x"}, {("/to", "type")}),
    ({"to": None, "text": None}, {("/to", "type"), ("/text", "type")}),
    ({"to": NUMBER, "text": ""}, {("/text", "minLength")}),
    ({"to": NUMBER, "text": " \n\t\u00a0\u3000"}, {("/text", "pattern")}),
    ({"to": NUMBER, "text": "a\0b"}, {("/text", "pattern")}),
    ({"to": NUMBER, "text": "x" * 1601}, {("/text", "maxLength")}),
    ({"to": NUMBER, "text": "x", "providers": "alpha"}, {("/providers", "type")}),
    ({"to": NUMBER, "text": "x", "providers": ["a"] * 17}, {("/providers", "maxItems")}),
    (
        {"to": NUMBER, "text": "x", "providers": ["", 1, "y" * 65]},
        {("/providers/0", "minLength"), ("/providers/1", "type"), ("/providers/2", "maxLength")},
    ),
    ({"to": NUMBER, "text": "x", "ttl_seconds": 9}, {("/ttl_seconds", "minimum")}),
    ({"to": NUMBER, "text": "x", "ttl_seconds": 86401}, {("/ttl_seconds", "maximum")}),
    ({"to": NUMBER, "text": "x", "ttl_seconds": True}, {("/ttl_seconds", "type")}),
    ({"to": NUMBER, "text": "x", "ttl_seconds": 60.5}, {("/ttl_seconds", "type")}),
    ({"to": NUMBER, "text": "x", "ttl_seconds": None}, {("/ttl_seconds", "type")}),
    ({"to": NUMBER, "text": "x", "from": "me"}, {("/from", "additionalProperties")}),
    ({}, {("/to", "required"), ("/text", "required")}),
    ([], {("", "type")}),
    ("text", {("", "type")}),
    (None, {("", "type")}),
    (
        {"to": "x", "text": "", "ttl_seconds": 1, "z": 1},
        {
            ("/to", "pattern"),
            ("/text", "minLength"),
            ("/ttl_seconds", "minimum"),
            ("/z", "additionalProperties"),
        },
    ),
]


@pytest.mark.parametrize(("body", "errors"), INVALID)
def test_an_invalid_payload_is_told_everything_that_is_wrong_with_it(
    gateway: Gateway, body: Any, errors: set[tuple[str, str]]
) -> None:
    """Every broken rule is listed with its place, not only the first."""
    headers = {"API-Key": key_of("acme"), "Content-Type": "application/json"}
    answer = gateway.http.post(SEND, content=json.dumps(body), headers=headers)
    details = assert_refused(answer, 422, "INVALID_PAYLOAD")
    assert details is not None
    assert {(error["path"], error["rule"]) for error in details["errors"]} == errors
    assert all(error.keys() == {"path", "message", "rule"} for error in details["errors"])


def test_unknown_providers_are_listed_with_the_allowed_ones(gateway: Gateway) -> None:
    """The refusal names every unknown name and all that could be written instead."""
    details = assert_refused(gateway.send(providers=["alpha", "Nobody", "nope"]), 422, "UNKNOWN_PROVIDER")
    assert details == {"unknown": ["Nobody", "nope"], "allowed": ["alpha", "beta", "down", "off"]}


@pytest.mark.parametrize("provider", ["off", "down", "BROKEN"])
def test_one_unusable_provider_is_refused(gateway: Gateway, provider: str) -> None:
    """Exactly one provider, inactive or not operational: a conflict with the present state."""
    assert_refused(gateway.send(providers=[provider, provider]), 409, "PROVIDER_DISABLED")


def test_several_unusable_providers_are_refused(gateway: Gateway) -> None:
    """Several providers asked for, none of them usable."""
    assert_refused(gateway.send(providers=["off", "down"]), 409, "ALL_PROVIDERS_DISABLED")


def test_no_usable_provider_at_all_is_said_with_retry_after(start_gateway: Callable[..., Gateway]) -> None:
    """Smart selection has nothing to select from."""
    gateway = start_gateway(
        PROVIDERS_CONFIG='{"alpha": {"is_active": false}, "beta": {"is_operational": false}}'
    )
    assert_refused(gateway.send(), 503, "NO_PROVIDER_AVAILABLE")


def test_a_used_up_quota_is_refused_until_the_reset(gateway: Gateway, backend: Backend) -> None:
    """The quota's last message is accepted, the next one is not; both say how much is left and until when."""
    answers = [gateway.send("small") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert_refused(answers[3], 429, "TOO_MANY_REQUESTS")
    assert len(backend.take_all()) == 3
    for answer, remaining in zip(answers, (2, 1, 0, 0), strict=True):
        assert answer.headers["ratelimit-policy"] == '"daily";q=3;w=86400'
        stated = re.fullmatch(r'"daily";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert stated is not None
        assert int(stated[1]) == remaining
        assert 0 < int(stated[2]) <= 86400
    assert 0 < int(answers[3].headers["retry-after"]) <= 86400


def test_a_quota_of_zero_accepts_nothing(gateway: Gateway) -> None:
    """``daily_quota: 0`` is a limit, not the absence of one."""
    assert_refused(gateway.send("nothing"), 429, "TOO_MANY_REQUESTS")


def test_an_unlimited_client_is_told_of_no_limit(gateway: Gateway) -> None:
    """Where there is no limit there are no RateLimit fields."""
    assert "ratelimit" not in gateway.send("acme").headers


@pytest.mark.parametrize(
    "key", ["", '""', '"open', "two words", "x" * 256, '"' + "x" * 256 + '"', "tab\tbed", "é"]
)
def test_a_malformed_idempotency_key_is_refused(gateway: Gateway, key: str) -> None:
    """1 to 255 visible ASCII characters, bare or quoted; anything else is refused."""
    headers = [(b"API-Key", key_of("acme").encode()), (b"Idempotency-Key", key.encode("latin-1"))]
    answer = gateway.http.post(SEND, json={"to": NUMBER, "text": TEXT}, headers=headers)
    assert_refused(answer, 400, "INVALID_IDEMPOTENCY_KEY")


def test_a_key_with_another_payload_is_refused(gateway: Gateway) -> None:
    """One key, one payload: the second one is a mistake of the sender's."""
    key = uuid.uuid4().hex
    assert gateway.send(key=key).status_code == 202
    assert_refused(gateway.send(key=key, text="something else"), 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/sms/send/", "/api/v1/sms", "/docs", "/healthz/", "/%00", "/api/v1/sms/send%0A"]
)
def test_an_unknown_path_is_not_found(gateway: Gateway, path: str) -> None:
    """Every path besides the four answers 404 in the one form, to every method."""
    for method in ("GET", "POST", "PUT"):
        assert_refused(gateway.http.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SEND, {"POST"}),
        ("PUT", SEND, {"POST"}),
        ("OPTIONS", SEND, {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/readyz", {"GET", "HEAD"}),
        ("PATCH", "/metrics", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(
    gateway: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    """405 with ``Allow``."""
    answer = gateway.http.request(method, path)
    assert_refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/+json"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_that_does_not_call_itself_json_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    """The media type is looked at, not guessed."""
    body = b'{"to": "+989121234567", "text": "x"}'
    answer = gateway.http.post(SEND, content=body, headers={"API-Key": key_of("acme"), **headers})
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_what_was_refused_is_not_on_the_queue(gateway: Gateway, backend: Backend) -> None:
    """Refusals of every stage leave the queue empty."""
    for answer in (
        gateway.send(None),
        gateway.send(text=""),
        gateway.send(providers=["off"]),
        gateway.send("nothing"),
    ):
        assert answer.status_code >= 400
    assert backend.take_all() == []
