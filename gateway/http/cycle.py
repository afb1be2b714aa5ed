"""One request and its answer: uvicorn's cycle, with a short way for what nearly every one of them is.

A body that is there whole is given at once, and an answer that comes whole leaves in one write at the end of the
iteration of the event loop. Everything else goes uvicorn's way: an answer to HEAD for instance, or on a connection that
ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from loguru import logger
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from gateway.http.transport import BatchingTransport
from pipeline.boundary import WHOLE_RESPONSE

EXTENSIONS: Mapping[str, object] = {WHOLE_RESPONSE: {}}
"""What a scope says of the messages that ``send`` takes besides those of ASGI."""

_UVICORN = logging.getLogger("uvicorn.error")
# What uvicorn forbids in a value: control characters but for the tab.
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != 0x09)
_END_OF_LINE = b"\r\n"
_LENGTH = b"\r\ncontent-length: "
# With these an answer is not of the plain kind.
_FRAMING = (b"connection", b"transfer-encoding")

Headers = Sequence[tuple[bytes, bytes]]


class Cycle(RequestResponseCycle):
    """Made by the protocol for each request whose head is there; ``keep_alive`` is what the request asks for."""

    transport: BatchingTransport  # type: ignore[mutable-override]  # It is given no other.

    def __init__(
        self,
        scope: Scope,
        transport: BatchingTransport,
        flow: FlowControl,
        default_headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        expect_100_continue: bool,
        on_response: Callable[..., None],
    ) -> None:
        super().__init__(
            scope=scope,  # type: ignore[arg-type]  # Starlette's type is any mutable mapping
            transport=transport,
            flow=flow,
            logger=_UVICORN,
            access_logger=_UVICORN,
            access_log=False,
            default_headers=default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expect_100_continue,
            keep_alive=keep_alive,
            on_response=on_response,
        )
        self._is_given = False

    def begin(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[None]]) -> None:
        """Have ``app`` answer, in a task that is among ``tasks`` until it ends."""
        # Here and not by a callback, which would take an iteration of the event loop for each request.
        task = loop.create_task(self._serve(app, lambda: tasks.discard(task)))
        tasks.add(task)

    def forget(self) -> None:
        """The connection is gone before this request was served: nobody is to be told of its answer."""
        self.on_response = _nobody

    async def _serve(self, app: ASGIApp, end: Callable[[], None]) -> None:
        try:
            await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]  # a scope of uvicorn's own type
        except Exception:  # noqa: BLE001 - whatever it was, nobody above would tell of it
            logger.exception("a request has failed outside of its boundary")
        finally:
            if not self.response_complete:
                # The boundary answers everything but what nobody waits for any more.
                self.transport.close()
            self.on_response = _nobody
            end()

    async def receive(self) -> Any:
        """See ASGI: the body, or that the client is gone or has its answer."""
        if (
            self.more_body
            or self._is_given
            or self.disconnected
            or self.response_complete
            or self.waiting_for_100_continue
        ):
            message = await super().receive()
            self._is_given = not message.get("more_body", False)
            return message
        self._is_given = True
        self.flow.resume_reading()
        # The next call waits for the client to go.
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        """See ASGI, and ``pipeline.boundary.WHOLE_RESPONSE``."""
        if message["type"] != WHOLE_RESPONSE:
            await super().send(message)
        elif not self._write(message["status"], message["headers"], message["body"]):
            await self._start(message)
            await super().send({"type": "http.response.body", "body": message["body"]})

    async def _start(self, message: Any) -> None:
        has_started = self.response_started
        start: Any = {**message, "type": "http.response.start"}
        try:
            await super().send(start)
        except Exception:
            if not has_started:
                # Nothing was written: a header is malformed, and another answer may leave in the place of this one.
                self.response_started, self.chunked_encoding = False, None
            raise

    def _write(self, status: int, headers: Headers, body: bytes) -> bool:
        """Whether the answer was of the plain kind, and has been written."""
        if (
            not self.keep_alive
            or self.disconnected
            or self.response_started
            or self.flow.write_paused
            or self.scope["method"] == "HEAD"
        ):
            return False
        whole = pack(status, (*self.default_headers, *headers), body)
        if whole is None:
            return False
        self.transport.write_soon(whole)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
        return True


def _nobody() -> None:
    """Whoever hears of an answer has heard."""


def pack(status: int, headers: Headers, body: bytes) -> bytes | None:
    """The bytes that uvicorn would write for this answer to a GET or POST, on a connection that stays open.

    None for what is not of the plain kind: the body's length is not among the headers or not that of the body, a header
    says how the answer ends otherwise, it has no body by its nature, or a header is malformed.
    """
    if status < 200 or status in (204, 304):
        return None
    try:
        head = b"".join(
            [STATUS_LINE[status], *[_begin(name) + value + _END_OF_LINE for name, value in headers]]
        )
    except (ValueError, TypeError, AttributeError):
        return None
    if (
        # No lines but those of the status and the headers, and no other control character.
        len(head.translate(None, _CONTROLS)) != len(head) - len(_END_OF_LINE) * (1 + len(headers))
        or (b"content-length", b"%d" % len(body)) not in headers
        or head.count(_LENGTH) != 1
    ):
        return None
    return b"".join((head, _END_OF_LINE, body))


@lru_cache(maxsize=1000)
def _begin(name: bytes) -> bytes:
    """What the line of a header begins with. Raises ``ValueError`` for a name that is not plain."""
    if not name or name in _FRAMING or name != name.lower() or HEADER_RE.search(name):
        raise ValueError("no plain header")
    return name + b": "
