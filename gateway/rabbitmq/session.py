"""aiormq's connection with what its users lack: cheap answers on its state, and its socket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiormq import Connection, TransportFactory
from aiormq.abc import AbstractChannel, TaskWrapper
from aiormq.connection import TCPTransportFactory, TLSTransportFactory

from gateway.tls.settings import Tls


class Session(Connection):
    """A connection to the broker at ``url``, which may have aiormq's own options in its query.

    TLS is spoken as ``tls`` says. Raises ``Unusable`` where its files cannot be used.
    """

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        self._socket = _Socket()
        self._unsent: list[bytes] = []
        super().__init__(url, transport_factory=self._socket, context=tls.context() if tls else None)

    @property
    def is_alive(self) -> bool:
        """What ``is_opened`` says of a connection that was made, at a fifth of its cost: each publish asks."""
        reader, writer = cast(TaskWrapper, self._reader_task).task, cast(TaskWrapper, self._writer_task).task
        return not (reader.done() or writer.done() or self._closing.done())

    @property
    def is_unblocked(self) -> bool:
        """Whether the broker takes publishes, as far as it has said so. aiormq has no flag of its own for it."""
        # ``ready`` waits until the connection is unblocked: it ends at its first step, or it would wait.
        waiting = self.ready()
        try:
            waiting.send(None)
        except StopIteration:
            return True
        waiting.close()
        return False

    async def channel(self, *arguments: Any, **options: Any) -> AbstractChannel:
        """See ``aiormq.Connection``. Raises ``ConnectionError`` when the connection has just been lost."""
        try:
            return await super().channel(*arguments, **options)
        except RuntimeError:
            if not self.is_closed:
                raise
            # aiormq's word for it is that of a bug.
            raise ConnectionError("lost before it was ready") from None

    def write(self, frames: bytes) -> None:
        """Send whole frames: all of one event-loop iteration in one write, in the order of the calls.

        Nothing waits for the socket. What it does not take stays in memory, which is bounded by how many publishes may
        be in flight at once, and by the connection's being given up when the broker confirms nothing any more.
        """
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(frames)

    def abort(self) -> None:
        """Drop the connection without closing it in order: nothing that waits on it waits any longer."""
        if self._socket.writer is not None:
            self._socket.writer.transport.abort()

    def _flush(self) -> None:
        # aiormq's own writer hands the same transport whole frames only, and so does this: neither gets in between the
        # frames of the other. What belongs to one channel keeps its order, for nothing is published on a channel before
        # the broker has answered its opening, nor after its closing has begun.
        frames = b"".join(self._unsent)
        self._unsent.clear()
        writer = self._socket.writer
        if writer is not None and not writer.is_closing():
            writer.write(frames)


class _Socket(TransportFactory):
    """Opens the socket as aiormq would, and keeps it at hand."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None

    async def create(self, url: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **kwargs)
        return reader, self.writer
