"""An answer as it leaves, and the compact form in which a store keeps it for replay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import Send

JSON = b"application/json"

_ACCEPTED = b"v1"


class Answer(NamedTuple):
    """A whole answer: status, body, content type, and headers that concern this one answer only."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send it as ASGI messages, with these headers besides its own."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
            *more_headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def pack(self, tracking_id: str) -> bytes:
        """What a store keeps: status, content type and body. A plain 202 needs two bytes."""
        if self.status == 202 and self == accepted(tracking_id):
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


def accepted(tracking_id: str) -> Answer:
    """The 202. Whoever changes its bytes gives it a new mark in ``pack`` and keeps the old one readable."""
    return Answer(
        202,
        b'{"success":true,"message":"Request accepted for processing.","tracking_id":"%s"}'
        % tracking_id.encode(),
    )
