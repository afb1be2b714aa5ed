"""Offers to upgrade, such as Java's HTTP client makes with each request: declined by answering as ever (RFC 9110, 7.8).

The parser stops behind the head of such a request, and would take its body for the new protocol's. So another parser
goes on in its place, which is told what the head has said of the body. No byte of a request is rewritten or guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import httptools

_FRAMING = (b"content-length", b"transfer-encoding")


class Callbacks(Protocol):
    """What ``httptools.HttpRequestParser`` calls."""

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""

    def on_url(self, url: bytes) -> None:
        """A part of the request's target has come."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, has come."""

    def on_headers_complete(self) -> None:
        """The whole head has come."""

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""

    def on_message_complete(self) -> None:
        """The whole request has come."""


def parser_behind(
    headers: Iterable[tuple[bytes, bytes]], keep_alive: bool, callbacks: Callbacks
) -> httptools.HttpRequestParser:
    """A parser for what follows a head with these headers, which ``callbacks`` have seen already.

    It parses the body, and then request after request.
    """
    lines = [b"%b: %b\r\n" % (name, value) for name, value in headers if name in _FRAMING]
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    parser = httptools.HttpRequestParser(_Behind(callbacks))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")))
    return parser


class _Behind:
    """Passes on everything but the first head."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._is_in_first_head = True
        self.on_body = callbacks.on_body
        self.on_message_complete = callbacks.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_in_first_head:
            self._callbacks.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_in_first_head:
            self._callbacks.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_first_head:
            self._callbacks.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._is_in_first_head:
            self._callbacks.on_headers_complete()
        self._is_in_first_head = False
