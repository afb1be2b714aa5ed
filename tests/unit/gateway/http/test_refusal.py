"""Answers to what no application is asked about."""

from __future__ import annotations

import json

import httptools
import pytest

from gateway.http import refusal
from gateway.http.head import MalformedHead
from pipeline.codes import BAD_REQUEST
from pipeline.failures import Refused
from schemas import load
from tests.support.lines import Lines


@pytest.mark.parametrize(
    ("error", "data", "status"),
    [
        (httptools.HttpParserInvalidMethodError(), b"BREW / HTTP/1.1\r\n", 405),
        (httptools.HttpParserInvalidMethodError(), b"br\xe9w / HTTP/1.1\r\n", 400),
        (httptools.HttpParserInvalidMethodError(), b"\x16\x03\x01", 400),
        (httptools.HttpParserInvalidURLError(), b"GET / HTTP/1.1\r\n", 400),
        (httptools.HttpParserCallbackError(), b"", 400),
    ],
)
def test_a_method_that_nobody_knows_is_told_from_what_is_no_http(
    error: httptools.HttpParserError, data: bytes, status: int
) -> None:
    """The former is told which methods there are."""
    refused = refusal.not_http(error, data)
    assert refused.code.status == status
    assert ((b"allow", b"GET, HEAD, POST") in refused.headers) == (status == 405)


@pytest.mark.parametrize(
    ("refused", "first", "level"),
    [
        (refusal.head_too_large(), b"HTTP/1.1 400 Bad Request", "INFO"),
        (refusal.too_many_connections(), b"HTTP/1.1 503 Service Unavailable", "WARNING"),
        (
            refusal.not_http(httptools.HttpParserInvalidMethodError(), b"BREW / "),
            b"HTTP/1.1 405 Method Not Allowed",
            "INFO",
        ),
    ],
)
def test_an_answer_is_an_error_like_all_others(
    refused: Refused, first: bytes, level: str, lines: Lines
) -> None:
    """With an id, which is in its log line, too; with uvicorn's headers; and the last on its connection."""
    answer = refusal.last_answer(refused, [(b"date", b"now")])
    head, _, body = answer.partition(b"\r\n\r\n")
    found = head.split(b"\r\n")
    error = json.loads(body)
    assert load("error").violations(error) == []
    assert found[0] == first
    assert {
        b"date: now",
        b"connection: close",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"x-tracking-id: " + error["tracking_id"].encode(),
    } <= set(found)
    line = lines.one()
    assert (line["tracking_id"], line["error_code"], line["level"]) == (
        error["tracking_id"],
        error["error_code"],
        level,
    )


def test_a_malformed_head_is_told_its_rule() -> None:
    """Which the parser keeps behind an error of its own."""
    error = httptools.HttpParserCallbackError()
    for behind, message in (
        (MalformedHead("The rule."), "The rule."),
        (ValueError("a bug"), BAD_REQUEST.message),
    ):
        error.__context__ = behind
        assert refusal.not_http(error, b"").message == message
