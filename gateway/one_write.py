"""The head of an answer leaves with the first part of its body, in one write to the socket instead of two."""

from __future__ import annotations

import asyncio

_CONTINUE = b"HTTP/1.1 100"


class OneWrite:
    """What uvicorn's cycle of one request and its answer uses of a transport.

    The cycle writes the head first. ASGI has a server keep it until the first part of the body comes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._has_head = False

    def write(self, data: bytes) -> None:
        """See ``asyncio.WriteTransport.write``."""
        if self._head is not None:
            data, self._head = self._head + data, None
        elif not self._has_head and not data.startswith(_CONTINUE):
            self._head, self._has_head = data, True
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        """See ``asyncio.BaseTransport.is_closing``."""
        return self._transport.is_closing()

    def close(self) -> None:
        """See ``asyncio.BaseTransport.close``; a head whose body never came leaves first."""
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None
        self._transport.close()
