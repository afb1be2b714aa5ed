"""The body of a request: read within limits of size and time, parsed once, and fingerprinted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Message, Receive

from pipeline import codes
from pipeline.failures import Refused

MAX_BODY_BYTES = 16 * 1024
# A client that is still writing when we close loses our answer to a reset. So much we read and throw away first.
_DISCARDED_BYTES = 1024 * 1024
_DISCARD_SECONDS = 1.0
_CLOSE = ((b"connection", b"close"),)


class ClientDisconnected(Exception):
    """The client went away before its body had arrived: nobody is left to answer."""


@dataclass(slots=True)
class Payload:
    """The body as it came, and what it says; ``problem`` tells why it says nothing."""

    raw: bytes
    document: Any = None
    problem: str | None = None

    def fingerprint(self, method: str, path: str) -> bytes:
        """SHA-256 over method, route and canonical body: sorted keys, or the raw bytes where it does not parse."""
        canonical = self.raw if self.problem else _canonical(self)
        return hashlib.sha256(b"%s %s\n%s" % (method.encode(), path.encode(), canonical)).digest()


def _canonical(payload: Payload) -> bytes:
    try:
        return orjson.dumps(payload.document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # It reads deeper nesting than it writes; no valid request nests at all.
        return payload.raw


def parse(raw: bytes) -> Payload:
    """Parse a JSON text (RFC 8259) that names no member twice, since then its readers would disagree."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Payload(raw, problem="must be a JSON text in UTF-8")
    # A flat object has one colon for each member and others only within strings, so equal counts mean no duplicate.
    if isinstance(document, dict) and raw.count(b":") == len(document):
        return Payload(raw, document)
    try:
        json.loads(raw, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        return Payload(raw, problem="must name no member twice and must not be nested deeply")
    return Payload(raw, document)


async def read(header: Callable[[bytes], bytes | None], receive: Receive) -> bytes:
    """The whole body of a request that calls itself JSON by its headers, which are asked for by their lower-case names.

    Raises ``Refused`` for another media type and for more than ``MAX_BODY_BYTES``, by its length or while it streams
    in; ``ClientDisconnected`` when it never ends. The time it may take is the boundary's to bound.
    """
    if (
        not _is_json(header(b"content-type") or b"")
        or (header(b"content-encoding") or b"identity").lower() != b"identity"
    ):
        raise Refused(codes.UNSUPPORTED_MEDIA_TYPE)
    # The server has refused what is no number, but takes leading zeros, of which Python reads only some thousand.
    if int((header(b"content-length") or b"").lstrip(b"0") or b"0") > MAX_BODY_BYTES:
        if header(b"expect") is not None:
            # A client that waits to be told "100 Continue" has sent nothing yet: the first receive would tell it.
            raise Refused(codes.PAYLOAD_TOO_LARGE, headers=_CLOSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                await _read_all(await receive(), receive)
        raise Refused(codes.PAYLOAD_TOO_LARGE, headers=_CLOSE)
    message = await receive()
    if (
        message["type"] != "http.request"
        or message.get("more_body", False)
        or len(message["body"]) > MAX_BODY_BYTES
    ):
        return await _read_all(message, receive)
    body: bytes = message["body"]
    return body


async def _read_all(message: Message, receive: Receive) -> bytes:
    """The rest of a body of which ``message`` is the first part."""
    chunks = []
    size = 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
        ended = not message.get("more_body", False)
        if ended or size > _DISCARDED_BYTES:
            if size > MAX_BODY_BYTES:
                raise Refused(codes.PAYLOAD_TOO_LARGE, headers=_CLOSE)
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnected


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return True
    return media_type.startswith(b"application/") and media_type.endswith(b"+json") and len(media_type) > 17


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members
