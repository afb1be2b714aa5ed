"""One request and its answer: uvicorn's cycle, with a short way for what nearly every one of them is.

A body that is there whole is given at once, and an answer that comes whole, its length in its head, leaves in one
write at the end of the turn. Everything else, an answer in parts or to HEAD for instance, goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from gateway.http.transport import Outgoing

_LOGGER = logging.getLogger("uvicorn.error")
# What uvicorn forbids in a value: control characters but for the tab.
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != 0x09)
_END_OF_LINE = b"\r\n"
# What each header's line begins with, the end of the line before it included, by the header's name.
_LINES: dict[bytes, bytes] = {}
_MOST_LINES = 1000
# With these an answer is not of the plain kind.
_FRAMING = (b"connection", b"transfer-encoding")


class Exchange(RequestResponseCycle):
    """Made by the protocol for each request whose head is there; ``keep_alive`` is what the request asks for."""

    transport: Outgoing  # type: ignore[mutable-override]  # It is given no other.

    def __init__(
        self,
        scope: Scope,
        transport: Outgoing,
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
            logger=_LOGGER,
            access_logger=_LOGGER,
            access_log=False,
            default_headers=default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expect_100_continue,
            keep_alive=keep_alive,
            on_response=on_response,
        )
        self._head: Message | None = None
        self._is_given = False

    def begin(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[None]]) -> None:
        """Have ``app`` answer, in a task that is among ``tasks`` until it ends."""
        # Here and not by a callback, which would take a turn of the loop for each request.
        task = loop.create_task(self._serve(app, lambda: tasks.discard(task)))
        tasks.add(task)

    def forget(self) -> None:
        """The connection is gone before this request was served: nobody is to be told of its answer."""
        self.on_response = _nothing_more

    async def _serve(self, app: ASGIApp, end: Callable[[], None]) -> None:
        try:
            try:
                await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]  # a scope of uvicorn's own type
            finally:
                if self._head is not None:
                    await self._send_head()
        except BaseException as error:  # noqa: BLE001 - uvicorn logs it, and answers if it still can
            await self.run_asgi(_Failed(error))
        else:
            if not self.response_complete:
                await self.run_asgi(_nothing)
        finally:
            self.on_response = _nothing_more
            end()

    async def receive(self) -> Any:
        """See ASGI: the body, or that the client is gone or has his answer."""
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
        """See ASGI: the head of the answer is kept until the first part of its body comes."""
        if self._head is None:
            if not self.response_started and message["type"] == "http.response.start":
                self._head, self.response_started = message, True
                return
        elif self._answered(self._head, message):
            return
        else:
            await self._send_head()
        await super().send(message)

    async def _send_head(self) -> None:
        """Send the head that was kept, if there is one, as uvicorn does: without its body."""
        head, self._head = self._head, None
        if head is not None:
            self.response_started = False
            await super().send(head)  # type: ignore[arg-type]  # uvicorn has a type for each kind of message

    def _answered(self, head: Message, message: Message) -> bool:
        """Whether this was a whole answer, and has been written."""
        if (
            message["type"] != "http.response.body"
            or message.get("more_body", False)
            or not self.keep_alive
            or self.disconnected
            or self.flow.write_paused
        ):
            return False
        body: bytes = message.get("body", b"")
        whole = pack(
            self.scope["method"], head["status"], (*self.default_headers, *head.get("headers", ())), body
        )
        if whole is None:
            return False
        self._head = None
        self.transport.hold(whole)
        self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
        return True


class _Failed:
    """An application that has failed already: for uvicorn to say what it says of such a one."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def __call__(self, *_: object) -> None:
        error = self._error
        # Its traceback holds this frame: a circle would wait for the garbage collector.
        del self._error
        try:
            raise error
        finally:
            del error


async def _nothing(*_: object) -> None:
    """An application that does no more: for uvicorn to say what it says of an answer that is not complete."""


def _nothing_more() -> None:
    """Who hears of an answer has heard."""


def pack(method: str, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> bytes | None:
    """The bytes that uvicorn would write for this answer, on a connection that stays open.

    None for what is not of the plain kind: the body's length is not among the headers or not that of the body, a header
    says how the answer ends otherwise, it has no body by its nature, or a header is malformed or one name too many.
    """
    if method == "HEAD" or status < 200 or status in (204, 304):
        return None
    try:
        lines = [_LINES[name] + value for name, value in headers]
    except KeyError:
        return pack(method, status, headers, body) if _learn(headers) else None
    head = b"".join([STATUS_LINE[status][: -len(_END_OF_LINE)], *lines])
    if (
        # No line but those of the headers, and no other control character.
        len(head.translate(None, _CONTROLS)) != len(head) - len(_END_OF_LINE) * len(lines)
        or head.count(_LINES[b"content-length"]) != 1
        or (b"content-length", b"%d" % len(body)) not in headers
    ):
        return None
    return b"".join((head, _END_OF_LINE, _END_OF_LINE, body))


def _learn(headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether all of these names are plain, and are known from now on."""
    for name, _ in headers:
        if name in _FRAMING or name != name.lower() or HEADER_RE.search(name) or len(_LINES) >= _MOST_LINES:
            return False
        _LINES[name] = b"%b%b: " % (_END_OF_LINE, name)
    return True


_learn(((b"content-length", b""),))
