"""Offers to upgrade, such as Java's HTTP client makes with each request: declined by answering as ever (RFC 9110, 7.8).

The parser stops behind the head of such a request, and would take its body for the new protocol's. So a new parser goes
on in its place, and is given the head once more without the offer: from what the first one has understood of it, not
from the bytes that came.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools


def head_without_offer(
    parser: httptools.HttpRequestParser, target: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head that ``parser`` has stopped behind, but for its offer. Names of ``headers`` are in lower case."""
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    first = b"%b %b HTTP/%b\r\n" % (parser.get_method(), target, parser.get_http_version().encode())
    return b"".join((first, *lines, b"\r\n"))
