"""The frames of a publish, packed from what all messages of one kind have in common.

Byte for byte what aiormq and pamqp make of the same message, at a fraction of the cost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime

from aiormq import spec
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER
from pamqp.frame import marshal

_PERSISTENT = 2
_TRANSIENT = 1

# AMQP 0-9-1, section 4.2: a frame's type, channel and size; after it in a content header come the class, a weight that
# is always 0, the body's size, and flags for the properties that follow.
_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">BHIHHQH")
_CONTENT_SIZE = _CONTENT.size - _FRAME.size
_TIMESTAMP = struct.Struct(">Q")
_FLAGS_SIZE = 2
_EXPIRATION = spec.Basic.Properties.flags["expiration"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What all messages of one kind have in common. A ``mandatory`` one must reach a queue or is returned."""

    exchange: str
    routing_key: str
    type: str
    app_id: str
    mandatory: bool = False
    persistent: bool = True


class Template:
    """Packs the messages of one ``kind`` for one channel, in body frames of up to ``body_size`` bytes each."""

    def __init__(self, kind: Kind, channel_number: int, body_size: int) -> None:
        publish = spec.Basic.Publish(
            exchange=kind.exchange, routing_key=kind.routing_key, mandatory=kind.mandatory
        )
        first = spec.Basic.Properties(
            content_type="application/json", delivery_mode=_PERSISTENT if kind.persistent else _TRANSIENT
        ).marshal()
        last = spec.Basic.Properties(message_type=kind.type, app_id=kind.app_id).marshal()
        flags = spec.Basic.Properties.flags
        self._number = channel_number
        self._body_size = body_size
        self._publish = marshal(publish, channel_number)
        self._flags = flags["message_id"] | flags["timestamp"]
        for constant in (first, last):
            self._flags |= int.from_bytes(constant[:_FLAGS_SIZE], "big")
        self._first = first[_FLAGS_SIZE:]
        self._last = last[_FLAGS_SIZE:] + FRAME_END_CHAR

    def pack(self, message_id: str, body: bytes, created_at: datetime, ttl_ms: int | None) -> bytes:
        """All frames of one message. ``created_at`` is aware and not before 1970; the id has 1 to 255 bytes.

        Raises ``ValueError`` or ``struct.error`` where a value has no place in a frame.
        """
        flags = self._flags
        expiration = b""
        if ttl_ms is not None:
            flags |= _EXPIRATION
            expiration = _short_string(str(ttl_ms))
        properties = b"".join(
            (
                self._first,
                expiration,
                _short_string(message_id),
                _TIMESTAMP.pack(int(created_at.timestamp())),
                self._last,
            )
        )
        size = _CONTENT_SIZE + len(properties) - len(FRAME_END_CHAR)
        content = _CONTENT.pack(FRAME_HEADER, self._number, size, spec.Basic.frame_id, 0, len(body), flags)
        return b"".join((self._publish, content, properties, *self._body(body)))

    def _body(self, body: bytes) -> tuple[bytes, ...]:
        size = len(body)
        if not size:
            return ()
        # A broker that sets no limit leaves none.
        if size <= self._body_size or self._body_size <= 0:
            return (_FRAME.pack(FRAME_BODY, self._number, size), body, FRAME_END_CHAR)
        pieces: list[bytes] = []
        for start in range(0, size, self._body_size):
            piece = body[start : start + self._body_size]
            pieces += (_FRAME.pack(FRAME_BODY, self._number, len(piece)), piece, FRAME_END_CHAR)
        return tuple(pieces)


def _short_string(text: str) -> bytes:
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
