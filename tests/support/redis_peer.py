"""A peer for connections to Redis: it answers each command as a test tells it to, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis

HOST = "127.0.0.1"
CLOSED_WITHIN_SECONDS = 30.0

Answer = Callable[[list[bytes]], Awaitable[bytes | None]]
"""Gives the bytes of the reply to a command, perhaps none at all; None closes the connection."""


class Peer:
    """``commands`` are those that came, whatever the connection, and ``connections`` are how many were accepted.

    Who sets another ``answer`` changes what the next commands are answered with.
    """

    def __init__(self, answer: Answer, piece: int) -> None:
        self.port = 0
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.answer = answer
        self._piece = piece
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{HOST}:{self.port}"

    def names(self) -> list[bytes]:
        """The first words of the commands."""
        return [command[0] for command in self.commands]

    def is_connected(self) -> bool:
        """Whether a connection is open on the other side."""
        return not all(writer.is_closing() for writer in self._writers)

    def cut(self) -> None:
        """Drop all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Live through one connection."""
        self.connections += 1
        self._writers.append(writer)
        # The gateway drops a connection with what is still unread on it, and that is a reset.
        with contextlib.suppress(ConnectionError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands: Any = hiredis.Reader()
        while not writer.is_closing() and (data := await reader.read(1 << 20)):
            commands.feed(data)
            replies = b""
            while (command := commands.gets()) is not False:
                self.commands.append(command)
                reply = await self.answer(command)
                if reply is None:
                    return
                replies += reply
            await self._write(writer, replies)

    async def _write(self, writer: asyncio.StreamWriter, replies: bytes) -> None:
        while replies and not writer.is_closing():
            length = min(self._piece, 5000) if len(replies) <= 5000 else len(replies) - 5000
            writer.write(replies[:length])
            replies = replies[length:]
            await asyncio.sleep(0)

    async def closed(self) -> None:
        """Return when the other side has closed all connections."""
        async with asyncio.timeout(CLOSED_WITHIN_SECONDS):
            while self.is_connected():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(answer: Answer, piece: int = 1 << 20) -> AsyncIterator[Peer]:
    """One that takes connections. Fails when one of them is left open by the other side.

    The last 5000 bytes of what it writes at once go out in pieces of ``piece`` bytes.
    """
    peer = Peer(answer, piece)
    async with await asyncio.start_server(peer.serve, HOST, 0) as server:
        peer.port = server.sockets[0].getsockname()[1]
        yield peer
    await peer.closed()


def packed(reply: bytes | str | int | Sequence[Any] | None) -> bytes:
    """A reply as Redis writes it (RESP2): a string, a number, nothing, or an array."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case str():
            return packed(reply.encode())
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(packed, reply))


async def ok(_: list[bytes]) -> bytes:
    """The answer of a server that takes everything."""
    return b"+OK\r\n"


async def silence(_: list[bytes]) -> bytes:
    """The answer of a server that hangs."""
    return b""
