"""An answer as it leaves, how it is held until then, and the compact form in which a store keeps it for replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from starlette.types import Message, Send

JSON = b"application/json"

_ACCEPTED = b"v1"
# They end with their head: a client takes whatever follows for the next answer (RFC 9110, 6.4.1 and 8.6).
_WITHOUT_BODY = (204, 304)
_FINAL = range(200, 600)
_ABOUT_BODY = (b"content-type", b"content-length", b"transfer-encoding")

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Answer:
    """A whole answer: status, body, content type, and headers that concern this one answer only.

    The content type may be empty, for a body that is. Of a plain 202, ``accepts`` is the tracking_id of its request.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()
    accepts: str | None = field(default=None, compare=False, repr=False)

    async def send(self, send: Send) -> None:
        """Hand it to a ``Reply`` as it is, and to any other ASGI ``send`` as the messages of ASGI."""
        if isinstance(send, Reply):
            send.take(self)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers()})
        await send({"type": "http.response.body", "body": self.body})

    def all_headers(self, more: Iterable[tuple[bytes, bytes]] = ()) -> list[tuple[bytes, bytes]]:
        """The headers that describe the body, its own, and ``more``."""
        if not self.content_type:
            length = [] if self.status in _WITHOUT_BODY else [(b"content-length", b"%d" % len(self.body))]
            return [*length, *self.headers, *more]
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
            *more,
        ]

    def pack(self, tracking_id: str) -> bytes:
        """What a store keeps: status, content type and body. The plain 202 of this very request needs two bytes."""
        if self.accepts == tracking_id:
            return _ACCEPTED
        return b"%d %s\n%s" % (self.status, self.content_type, self.body)

    @classmethod
    def unpack(cls, packed: bytes, tracking_id: str) -> Answer:
        """The answer that ``pack`` was called on, without its headers."""
        if packed == _ACCEPTED:
            return accepted(tracking_id)
        head, _, body = packed.partition(b"\n")
        status, _, content_type = head.partition(b" ")
        return cls(int(status), body, content_type)


class Reply:
    """An ASGI ``send`` that holds the answer. ``on_answer`` is called when it is there.

    Our own stages hand over an ``Answer``; of one that speaks ASGI the messages are put together. ``answer`` is None
    until it is whole.
    """

    __slots__ = ("_on_answer", "_parts", "_start", "answer")

    def __init__(self, on_answer: Callable[[], None] | None = None) -> None:
        self.answer: Answer | None = None
        self._on_answer = on_answer
        self._start: Message | None = None
        self._parts: list[bytes] = []

    def take(self, answer: Answer) -> None:
        """The answer is there. Raises ``RuntimeError`` when there was one already."""
        if self.answer is not None:
            raise RuntimeError("a request has one answer")
        self.answer = answer
        if self._on_answer is not None:
            self._on_answer()

    def whole(self) -> Answer:
        """The answer. Raises ``RuntimeError`` when there is none."""
        if self.answer is None:
            raise RuntimeError("no stage has answered")
        return self.answer

    async def __call__(self, message: Message) -> None:
        """Take one ASGI message of an answer. Raises ``RuntimeError`` for one that nobody could send."""
        if message["type"] == "http.response.start":
            if message["status"] not in _FINAL:
                raise RuntimeError(f"no status of an answer: {message['status']!r}")
            self._start = message
            return
        if self._start is None:
            raise RuntimeError(f"'{message['type']}' came before 'http.response.start'")
        self._parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        status, fields = self._start["status"], list(self._start.get("headers", ()))
        own = tuple((name, value) for name, value in fields if name.lower() not in _ABOUT_BODY)
        if status in _WITHOUT_BODY:
            self.take(Answer(status, b"", b"", own))
            return
        described = {name.lower(): value for name, value in fields}
        body = b"".join(self._parts)
        content_type = described.get(b"content-type", JSON if body else b"")
        self.take(Answer(status, body, content_type, own))


def accepted(tracking_id: str) -> Answer:
    """The 202. Whoever changes its bytes gives it a new mark in ``pack`` and keeps the old one readable."""
    return Answer(
        202,
        b'{"success":true,"message":"Request accepted for processing.","tracking_id":"%s"}'
        % tracking_id.encode(),
        accepts=tracking_id,
    )
