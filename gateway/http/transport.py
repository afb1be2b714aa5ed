"""What connections send: the answers of one iteration of the event loop leave together, when it ends.

Each system call leaves the processor's caches and its guesses at branches to the kernel, and the Python that follows
pays for it. So all answers of an iteration are made first, and then written one after the other.
"""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger

WRITE_SECONDS = 8.0
"""How long a client may take none of its answers, or to take the last; shorter than a request's deadline."""


class WriteBatch:
    """The transports that have something to write at the end of an iteration of ``loop``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._transports: list[BatchingTransport] = []

    def add(self, transport: BatchingTransport) -> None:
        """It has something to write, since just now."""
        if not self._transports:
            self.loop.call_soon(self._write)
        self._transports.append(transport)

    def _write(self) -> None:
        transports, self._transports = self._transports, []
        for transport in transports:
            try:
                transport.flush()
            except Exception:  # noqa: BLE001 - one transport that fails must not keep the others' answers
                logger.exception("an answer could not be written")
                transport.abort()


class BatchingTransport(asyncio.Transport):
    """The transport of one connection, as far as an HTTP protocol needs it, and ``write_soon``.

    Whatever else is done with it is done after what waits: the order of the calls is that of the bytes.
    """

    def __init__(self, transport: asyncio.Transport, batch: WriteBatch) -> None:
        super().__init__()
        self._transport = transport
        self._batch = batch
        self._waiting: list[bytes] = []
        self._drop: asyncio.TimerHandle | None = None

    def write_soon(self, data: bytes) -> None:
        """Write ``data`` at the end of this iteration, or before the next call that writes or closes."""
        if not self._waiting:
            self._batch.add(self)
        self._waiting.append(data)

    def flush(self) -> None:
        """Write what waits; nothing on a connection that is gone."""
        if self._waiting:
            waiting = b"".join(self._waiting)
            self._waiting.clear()
            if not self._transport.is_closing():
                self._transport.write(waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``asyncio.WriteTransport``. Nothing comes behind the end of a connection, such as its refusal."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """See ``asyncio.BaseTransport``. A client that has not taken the rest in ``WRITE_SECONDS`` is dropped."""
        self.flush()
        if self._transport.is_closing():
            return
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._drop = self._batch.loop.call_later(WRITE_SECONDS, self._transport.abort)

    def lost(self) -> None:
        """The connection is gone."""
        self._waiting.clear()
        if self._drop is not None:
            self._drop.cancel()

    def abort(self) -> None:
        """See ``asyncio.WriteTransport``."""
        self._waiting.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """See ``asyncio.WriteTransport``; what waits is not in it."""
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
