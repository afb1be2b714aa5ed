"""The channel on which messages of one kind are published at present, replaced whenever its state is in doubt."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime

from aiormq import Connection

from gateway.rabbitmq.channel import ConfirmChannel, Rejected, Unconfirmed, Unroutable
from gateway.rabbitmq.connection import BrokerConnection
from gateway.rabbitmq.frames import Kind
from pipeline.ports import BrokerRefused, BrokerUnknown

_SILENT_MESSAGES = 2
_SILENCE_SECONDS = 10.0
_REJECTED_SECONDS = 1.0


class Publisher:
    """Publishes on ``connection``, whose ``set_up`` must call this one's; ``confirm_seconds`` bounds each publish."""

    def __init__(self, connection: BrokerConnection, kind: Kind, confirm_seconds: float) -> None:
        self._connection = connection
        self._kind = kind
        self._confirm_seconds = confirm_seconds
        self._channel: ConfirmChannel | None = None
        self._replaced = asyncio.Event()
        self._unconfirmed = 0
        self._rejected_at = 0.0
        self._unconfirmed_at = 0.0

    async def set_up(self, connection: Connection) -> None:
        """Publish on a fresh channel from now on; what is in flight on the one before gets its answers there."""
        stale = self._channel
        self._channel = await ConfirmChannel.open(connection, self._kind, self._confirm_seconds)
        self._replaced.set()
        self._replaced = asyncio.Event()
        if stale is not None:
            self._connection.spawn(stale.retire())

    async def publish(
        self, message_id: str, body: bytes, created_at: datetime, ttl_ms: int | None = None
    ) -> None:
        """Return when the broker has stored the message.

        Raises ``BrokerRefused``, at once while the connection is known to be lost or blocked, or ``BrokerUnknown``. No
        id may be published twice at a time.
        """
        channel = self._usable()
        if message_id in channel.doubtful:
            channel = await self._fresh_for(message_id)
        # Nothing is awaited between the check above and the frames' being handed over.
        try:
            await channel.publish(message_id, body, created_at, ttl_ms)
        except Unconfirmed:
            self._unconfirmed += 1
            self._unconfirmed_at = time.monotonic()
            self._connection.unconfirmed(self._confirm_seconds)
            self._replace(channel)
            raise
        except Rejected:
            # A full quorum queue goes on refusing what comes on this channel even when its limit has been lifted.
            if time.monotonic() - self._rejected_at > _REJECTED_SECONDS:
                self._rejected_at = time.monotonic()
                self._replace(channel)
            raise
        except (BrokerUnknown, Unroutable, asyncio.CancelledError):
            self._replace(channel)
            raise
        self._unconfirmed = 0
        self._connection.confirmed()

    def silence(self) -> str | None:
        """That the broker answers none of these messages at present, though it may answer others; None if it does."""
        # An old silence proves nothing: nobody may have dared to publish since.
        is_recent = time.monotonic() - self._unconfirmed_at < _SILENCE_SECONDS
        if self._unconfirmed < _SILENT_MESSAGES or not is_recent:
            return None
        return f"RabbitMQ has not confirmed the last {self._unconfirmed} messages: see whether the queue has a leader"

    def _usable(self) -> ConfirmChannel:
        obstacle = self._connection.obstacle()
        if obstacle is not None:
            raise BrokerRefused(obstacle)
        channel = self._channel
        if channel is None or not channel.is_open:
            self._connection.renew()
            raise BrokerRefused("the broker has closed the channel; another is being opened")
        return channel

    def _replace(self, channel: ConfirmChannel) -> None:
        """Have the topology declared again and a fresh channel opened, once for each channel that failed."""
        if channel is self._channel:
            self._connection.renew()

    async def _fresh_for(self, message_id: str) -> ConfirmChannel:
        """The channel, once it is one on which no earlier publish of this id may still be answered."""
        self._connection.renew()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._confirm_seconds):
                await self._replaced.wait()
        channel = self._usable()
        if message_id in channel.doubtful:
            raise BrokerRefused("no fresh channel could be opened in time")
        return channel
