"""A peer for AMQP connections: it opens whatever it is asked to, and answers publishes only as a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiormq import spec
from pamqp import frame as frames
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

# Small, so that messages take several frames.
FRAME_MAX = 4096

REPLIES: dict[str, Any] = {
    "Connection.StartOk": spec.Connection.Tune(channel_max=100, frame_max=FRAME_MAX, heartbeat=0),
    "Connection.Open": spec.Connection.OpenOk(),
    "Connection.Close": spec.Connection.CloseOk(),
    "Channel.Open": spec.Channel.OpenOk(),
    "Channel.Close": spec.Channel.CloseOk(),
    "Confirm.Select": spec.Confirm.SelectOk(),
    "Queue.Declare": spec.Queue.DeclareOk(queue="q", message_count=0, consumer_count=0),
    "Queue.Bind": spec.Queue.BindOk(),
    "Exchange.Declare": spec.Exchange.DeclareOk(),
    "Basic.Consume": spec.Basic.ConsumeOk(consumer_tag="c"),
}


class Peer:
    """``received`` are the frames that came, with the number of their channel, and ``port`` is where it listens.

    ``replies`` has the frame that answers another, by the name of that; no frame: no answer. Where ``confirms`` is
    true, each message is acknowledged as soon as it is there.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received: list[tuple[int, Any]] = []
        self.connections = 0
        self.replies = {**REPLIES}
        self.confirms = False
        self._unread: dict[int, int] = {}
        self._tags: dict[int, int] = {}
        self._came = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def names(self, channel: int | None = None) -> list[str]:
        """The names of the frames that came, on one channel or on all."""
        return [frame.name for number, frame in self.received if channel in {None, number}]

    async def got(self, name: str, count: int = 1) -> None:
        """Return when so many frames of this name have come."""
        async with self._came, asyncio.timeout(20):
            await self._came.wait_for(lambda: self.names().count(name) >= count)

    def messages(self, channel: int = 1) -> list[tuple[str, bytes]]:
        """Id and body of each message on a channel. Fails where frames are not in the order that AMQP demands."""
        found: list[tuple[str, bytes]] = []
        wanted = 0
        for number, frame in self.received:
            if number != channel:
                continue
            if isinstance(frame, ContentHeader):
                found.append((str(frame.properties.message_id), b""))
                wanted = frame.body_size
            elif isinstance(frame, ContentBody):
                message_id, body = found.pop()
                found.append((message_id, body + frame.value))
                wanted -= len(frame.value)
            else:
                assert wanted == 0, f"{frame.name} came in the midst of a message"
        return found

    async def has(self, count: int, channel: int = 1) -> list[str]:
        """The ids of the messages on a channel, in their order, once there are this many."""
        async with self._came, asyncio.timeout(20):
            await self._came.wait_for(lambda: len(self.messages(channel)) >= count)
        return [message_id for message_id, _ in self.messages(channel)]

    def say(self, *said: Any, channel: int = 1) -> None:
        """Send these frames."""
        assert self._writer is not None
        self._writer.write(b"".join(frames.marshal(frame, channel) for frame in said))

    def give_back(self, message_id: str, channel: int = 1) -> None:
        """Return a message as unroutable."""
        properties = spec.Basic.Properties(message_id=message_id)
        returned = spec.Basic.Return(reply_code=312, reply_text="NO_ROUTE", exchange="x", routing_key="r")
        self.say(returned, ContentHeader(properties=properties, body_size=0), channel=channel)

    def cut(self) -> None:
        """Drop the connection."""
        assert self._writer is not None
        self._writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Live through one connection."""
        self._writer = writer
        self.connections += 1
        self._tags.clear()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(b"AMQP0091"))
            properties: Any = {"capabilities": {"publisher_confirms": True, "basic.nack": True}}
            self.say(spec.Connection.Start(server_properties=properties), channel=0)
            while True:
                start = await reader.readexactly(7)
                rest = await reader.readexactly(int.from_bytes(start[3:], "big") + 1)
                _, number, frame = frames.unmarshal(start + rest)
                async with self._came:
                    self.received.append((number, frame))
                    self._came.notify_all()
                if self.replies.get(frame.name) is not None:
                    self.say(self.replies[frame.name], channel=number)
                self._confirm(number, frame)
        writer.close()

    def _confirm(self, channel: int, frame: Any) -> None:
        """Count the messages of each channel, and acknowledge those that have come whole."""
        if isinstance(frame, spec.Channel.Open):
            self._tags[channel] = 0
        elif isinstance(frame, ContentHeader):
            self._tags[channel] += 1
            self._unread[channel] = frame.body_size
        elif isinstance(frame, ContentBody):
            self._unread[channel] -= len(frame.value)
        else:
            return
        if self.confirms and not isinstance(frame, spec.Channel.Open) and not self._unread[channel]:
            self.say(spec.Basic.Ack(self._tags[channel]), channel=channel)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Peer]:
    """One that takes connections."""
    peer = Peer()
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        peer.port = server.sockets[0].getsockname()[1]
        yield peer
