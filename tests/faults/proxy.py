"""A TCP proxy that does to a connection what networks do: stalls, drips, cuts, half-closes and refuses.

It runs in a thread of its own; every method may be called from any other thread and returns when its effect is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.support.servers import HOST, free_port

T = TypeVar("T")

_CHUNK = 65536
_TICK_SECONDS = 0.02
_CALL_SECONDS = 10.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all; closing then sends RST.


class Direction(enum.Flag):
    """Which way bytes flow; ``BOTH`` is either."""

    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()
    BOTH = TO_SERVER | TO_CLIENT


@dataclass(eq=False, slots=True)
class _Pipe:
    """One direction of one connection; ``is_ended`` when we have said that nothing more comes this way."""

    direction: Direction
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_ended: bool = False

    def end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            with contextlib.suppress(OSError):
                self.writer.write_eof()


class Proxy:
    """Passes everything on to ``HOST:target_port`` until it is told otherwise; ``port`` is where it listens."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = Direction(0)
        self._dripping = Direction(0)
        self._bytes_a_second = 0
        self.held = 0
        """So many pieces had to wait because of ``stall``."""
        self.dripped = 0
        """So many pieces were passed on because of ``drip``."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *exception: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)
        self._loop.close()

    def heal(self) -> None:
        """Pass everything on again and accept connections. What was held up goes on its way; what was cut stays cut."""
        self._run(self._heal())

    def stall(self, direction: Direction = Direction.BOTH) -> None:
        """Pass nothing on, of connections that there are and that will be; close none."""

        async def do() -> None:
            self._stalled = direction

        self._run(do())

    def drip(self, bytes_a_second: int, direction: Direction = Direction.BOTH) -> None:
        """Pass on so much and no more, on each connection."""

        async def do() -> None:
            self._dripping, self._bytes_a_second = direction, bytes_a_second

        self._run(do())

    def cut(self) -> int:
        """End every connection there is by RST, to both sides; whatever was on its way is gone. Returns how many."""
        return self._run(self._cut())

    def half_close(self, direction: Direction) -> int:
        """Say on every connection that nothing more will come this way; the other way stays open. Returns how many."""
        return self._run(self._half_close(direction))

    def refuse(self) -> None:
        """Refuse new connections; those that there are stay."""
        self._run(self._refuse())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port, backlog=256)

    async def _heal(self) -> None:
        self._stalled = self._dripping = Direction(0)
        await self._listen()

    async def _refuse(self) -> None:
        if self._listener is not None:
            # Not awaited: from Python 3.12 on that would wait for the connections, too.
            self._listener.close()
            self._listener = None

    async def _close(self) -> None:
        await self._refuse()
        self._stalled = Direction(0)
        await self._cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _cut(self) -> int:
        for pipe in self._pipes:
            _reset(pipe.writer)
        return len(self._pipes) // 2

    async def _half_close(self, direction: Direction) -> int:
        ended = [pipe for pipe in self._pipes if pipe.direction in direction and not pipe.is_ended]
        for pipe in ended:
            pipe.end()
        return len(ended)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            _reset(writer)
            return
        pipes = (
            _Pipe(Direction.TO_SERVER, reader, server_writer),
            _Pipe(Direction.TO_CLIENT, server_reader, writer),
        )
        self._pipes.update(pipes)
        try:
            async with asyncio.TaskGroup() as pumps:
                for pipe in pipes:
                    pumps.create_task(self._pump(pipe))
        except* OSError:
            pass  # One side has reset the connection: the other side hears of it below.
        finally:
            self._pipes.difference_update(pipes)
            writer.transport.abort()
            server_writer.transport.abort()

    async def _pump(self, pipe: _Pipe) -> None:
        """Pass on until the stream ends, and its end too. What comes after a half-close is dropped."""
        while True:
            await self._not_stalled(pipe)
            data = await pipe.reader.read(_CHUNK)
            while data:
                # It may have begun while we waited for the data.
                self.held += pipe.direction in self._stalled
                await self._not_stalled(pipe)
                size = len(data)
                if pipe.direction in self._dripping:
                    self.dripped += 1
                    await asyncio.sleep(_TICK_SECONDS)
                    size = max(1, int(self._bytes_a_second * _TICK_SECONDS))
                if not pipe.is_ended:
                    pipe.writer.write(data[:size])
                    await pipe.writer.drain()
                data = data[size:]
            if pipe.reader.at_eof():
                await self._not_stalled(pipe)
                pipe.end()
                return

    async def _not_stalled(self, pipe: _Pipe) -> None:
        while pipe.direction in self._stalled:
            await asyncio.sleep(_TICK_SECONDS)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
