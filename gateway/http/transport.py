"""What connections send: the answers of one turn of the event loop leave together, when it ends.

Each system call leaves the processor's caches and its guesses at branches to the kernel, and the Python that follows
pays for it. So all answers of a turn are made first, and then written one after the other.
"""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger

WRITE_SECONDS = 8.0
"""How long a client may take none of its answers, or to take the last; shorter than a request's deadline."""


class Turn:
    """Lets what was held back in a turn of ``loop`` go at its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._holding: list[Outgoing] = []

    def add(self, outgoing: Outgoing) -> None:
        """It holds something back, since just now."""
        if not self._holding:
            self.loop.call_soon(self._end)
        self._holding.append(outgoing)

    def _end(self) -> None:
        holding, self._holding = self._holding, []
        for outgoing in holding:
            try:
                outgoing.flush()
            except Exception:  # noqa: BLE001 - one transport that fails must not keep the others' answers
                logger.exception("an answer could not be written")
                outgoing.abort()


class Outgoing(asyncio.Transport):
    """The transport of one connection, as far as an HTTP protocol needs it, and ``hold``.

    Whatever else is done with it is done after what was held back: the order of the calls is that of the bytes.
    """

    def __init__(self, transport: asyncio.Transport, turn: Turn) -> None:
        super().__init__()
        self._transport = transport
        self._turn = turn
        self._held: list[bytes] = []
        self._drop: asyncio.TimerHandle | None = None

    def hold(self, data: bytes) -> None:
        """Write ``data`` at the end of this turn, or before the next call that writes or closes."""
        if not self._held:
            self._turn.add(self)
        self._held.append(data)

    def flush(self) -> None:
        """Write what is held back; nothing on a connection that is gone."""
        if self._held:
            held = b"".join(self._held)
            self._held.clear()
            if not self._transport.is_closing():
                self._transport.write(held)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``asyncio.WriteTransport``."""
        self.flush()
        self._transport.write(data)

    def close(self) -> None:
        """See ``asyncio.BaseTransport``. Who has not taken the rest in ``WRITE_SECONDS`` is dropped."""
        self.flush()
        if self._transport.is_closing():
            return
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._drop = self._turn.loop.call_later(WRITE_SECONDS, self._transport.abort)

    def lost(self) -> None:
        """The connection is gone."""
        self._held.clear()
        if self._drop is not None:
            self._drop.cancel()

    def abort(self) -> None:
        """See ``asyncio.WriteTransport``."""
        self._held.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """See ``asyncio.WriteTransport``; what is held back is not in it."""
        return self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """See ``asyncio.BaseTransport``."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See ``asyncio.BaseTransport``."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """See ``asyncio.ReadTransport``."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See ``asyncio.ReadTransport``."""
        self._transport.resume_reading()
