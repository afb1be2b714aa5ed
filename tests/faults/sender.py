"""A sender of HTTP requests that knows of each whether it left, and how it ended: httpx does not tell."""

from __future__ import annotations

import asyncio
import contextlib
import time

from tests.faults.ledger import Answer, Attempt, End
from tests.support.gateways import SEND
from tests.support.servers import HOST

_IDLE_CONNECTIONS = 32
_CONNECT_SECONDS = 5.0

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Sender:
    """Sends to one gateway on connections that it keeps open; ``gateway`` is its number, to be noted in attempts."""

    def __init__(self, gateway: int, port: int) -> None:
        self.gateway = gateway
        self.port = port
        self._idle: list[_Connection] = []

    async def send(self, headers: dict[str, str], body: bytes, patience_seconds: float) -> Attempt:
        """One attempt, whatever becomes of it."""
        began = time.monotonic()
        try:
            connection = await self._connect()
        except OSError:
            return Attempt(self.gateway, began, time.monotonic(), End.UNSENT)
        reader, writer = connection
        end, answer = End.LOST, None
        try:
            async with asyncio.timeout(patience_seconds):
                writer.write(request(headers, body))
                answer = await read_answer(reader)
            end = End.ANSWERED
        except TimeoutError:
            end = End.TIMED_OUT
        except (OSError, EOFError):
            pass
        finally:
            self._put_back(connection, answer)
        return Attempt(self.gateway, began, time.monotonic(), end, answer)

    async def send_and_leave(self, headers: dict[str, str], body: bytes, *, whole: bool) -> Attempt:
        """Send the request, or half of its body, and hang up without waiting for an answer."""
        began = time.monotonic()
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return Attempt(self.gateway, began, time.monotonic(), End.UNSENT)
        packed = request(headers, body)
        with contextlib.suppress(OSError):
            writer.write(packed if whole else packed[: -len(body) // 2])
            await writer.drain()
        writer.close()
        return Attempt(self.gateway, began, time.monotonic(), End.ABANDONED if whole else End.CUT_SHORT)

    async def send_slowly(self, headers: dict[str, str], body: bytes, patience_seconds: float) -> Attempt:
        """Send the body a byte a second until there is an answer or patience ends."""
        began = time.monotonic()
        end, answer = End.LOST, None
        writer = None
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            packed = request(headers, body)
            writer.write(packed[: -len(body)])
            async with asyncio.timeout(patience_seconds):
                answering = asyncio.ensure_future(read_answer(reader))
                for byte in body:
                    writer.write(bytes([byte]))
                    await asyncio.wait({answering}, timeout=1)
                    if answering.done():
                        break
                answer = await answering
            end = End.ANSWERED
        except TimeoutError:
            end = End.TIMED_OUT
        except (OSError, EOFError):
            pass
        finally:
            if writer is not None:
                writer.transport.abort()
        return Attempt(self.gateway, began, time.monotonic(), end, answer)

    async def flood(
        self, headers: dict[str, str], total_bytes: int, *, chunked: bool
    ) -> tuple[Answer | None, int]:
        """Send so long a body until there is an answer; the answer, if any arrived, and how much was written."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total_bytes}"
        writer.write((_head(headers) + f"{length}\r\n\r\n").encode())
        data = b"x" * 65536
        piece = b"%x\r\n%s\r\n" % (len(data), data) if chunked else data
        written = 0
        answering = asyncio.ensure_future(read_answer(reader))
        try:
            while written < total_bytes and not answering.done():
                writer.write(piece)
                written += len(data)
                await writer.drain()
                await asyncio.sleep(0)
        except OSError:
            pass
        answer = None
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            answer = await asyncio.wait_for(answering, 10)
        writer.transport.abort()
        return answer, written

    def close(self) -> None:
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()

    async def _connect(self) -> _Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.transport.abort()
        try:
            return await asyncio.wait_for(asyncio.open_connection(HOST, self.port), _CONNECT_SECONDS)
        except TimeoutError:
            raise OSError("no connection in time") from None

    def _put_back(self, connection: _Connection, answer: Answer | None) -> None:
        is_reusable = answer is not None and answer.headers.get("connection") != "close"
        if is_reusable and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection[1].transport.abort()


def request(headers: dict[str, str], body: bytes) -> bytes:
    """A send, ready for the wire."""
    return (_head(headers) + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def _head(headers: dict[str, str]) -> str:
    every = {"Host": HOST, "Content-Type": "application/json", **headers}
    return f"POST {SEND} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in every.items())


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer. Raises OSError or EOFError when the connection ends before it does."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(first.split()[1]), headers, body)
