"""What is said of a connection or of bytes that no application is asked about: in the form of every other error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import httptools
from loguru import logger
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.http.head import MalformedHead
from pipeline import codes
from pipeline.failures import Refused
from pipeline.ids import random_uuid

_METHOD = re.compile(rb"[!#-'*+.^-z|~0-9A-Z-]+ /")


def too_many_connections() -> Refused:
    """Said to a connection beyond the bound."""
    reason = "Too many connections are open. Nothing was sent; try again in a second."
    return Refused(codes.SERVICE_UNAVAILABLE, reason, retry_after=1)


def head_too_large() -> Refused:
    """Said when a head goes on beyond its bound."""
    return Refused(codes.BAD_REQUEST, "The head of the request is too large.")


def not_http(error: httptools.HttpParserError, data: bytes) -> Refused:
    """Said of bytes that the parser did not take."""
    if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(data):
        return Refused(codes.METHOD_NOT_ALLOWED, headers=((b"allow", b"GET, HEAD, POST"),))
    malformed = error.__context__
    return Refused(codes.BAD_REQUEST, str(malformed) if isinstance(malformed, MalformedHead) else None)


def last_answer(refused: Refused, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of an answer that ends its connection. It is logged, as every request is."""
    tracking_id = random_uuid()
    answer = refused.answer(tracking_id, datetime.now(UTC))
    more = ((b"x-tracking-id", tracking_id.encode()), (b"connection", b"close"))
    lines = [b"%b: %b\r\n" % header for header in (*default_headers, *answer.all_headers(more))]
    logger.bind(tracking_id=tracking_id, status=answer.status, error_code=refused.code.name).log(
        "WARNING" if answer.status >= 500 else "INFO", "request refused"
    )
    return b"".join((STATUS_LINE[answer.status], *lines, b"\r\n", answer.body))
