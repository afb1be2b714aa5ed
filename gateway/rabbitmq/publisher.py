"""The channel on which messages of one kind are published at present, replaced whenever its state is in doubt."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime

from gateway.rabbitmq.channel import ClosedChannel, ConfirmChannel, Rejected, Unconfirmed, Unroutable
from gateway.rabbitmq.connection import BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerRefused, BrokerUnknown

_REJECTED_SECONDS = 1.0
_FAILURES_IN_A_ROW = 2
_RECENT_SECONDS = 10.0
# A delivery side that keeps up may let a bounded queue be full for a moment.
_REFUSED_SECONDS = 2.0


class _Failures:
    """Messages that failed in one way, and since the first of which none was confirmed."""

    def __init__(self) -> None:
        self.count = 0
        self._first = self._latest = 0.0

    def add(self) -> None:
        self._latest = time.monotonic()
        if not self.count:
            self._first = self._latest
        self.count += 1

    def last(self, seconds: float) -> bool:
        """Whether there are several, over so many seconds at least."""
        # Old ones prove nothing: nobody may have dared to publish since.
        is_recent = time.monotonic() - self._latest < _RECENT_SECONDS
        return self.count >= _FAILURES_IN_A_ROW and is_recent and self._latest - self._first >= seconds


class Publisher:
    """Publishes on ``connection``, whose ``set_up`` must call this one's; ``confirm_seconds`` bounds each publish."""

    def __init__(self, connection: BrokerConnection, kind: Kind, confirm_seconds: float) -> None:
        self._connection = connection
        self._kind = kind
        self._confirm_seconds = confirm_seconds
        self._channel: ConfirmChannel | None = None
        self._replaced = asyncio.Event()
        self._unconfirmed = _Failures()
        self._refused = _Failures()
        self._rejected_at = 0.0

    async def set_up(self, session: Session) -> None:
        """Publish on a fresh channel from now on; what is in flight on the one before gets its answers there."""
        stale = self._channel
        self._channel = await ConfirmChannel.open(session, self._kind, self._confirm_seconds)
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
        try:
            await channel.publish(message_id, body, created_at, ttl_ms)
        except Unconfirmed:
            self._unconfirmed.add()
            self._connection.unconfirmed(self._confirm_seconds)
            self._replace(channel)
            raise
        except Rejected:
            self._refused.add()
            # A full quorum queue goes on refusing what comes on this channel even when its limit has been lifted.
            if time.monotonic() - self._rejected_at > _REJECTED_SECONDS:
                self._rejected_at = time.monotonic()
                self._replace(channel)
            raise
        except Unroutable:
            self._refused.add()
            self._replace(channel)
            raise
        except (ClosedChannel, BrokerUnknown, asyncio.CancelledError):
            self._replace(channel)
            raise
        self._unconfirmed.count = self._refused.count = 0
        self._connection.confirmed()

    def complaint(self) -> str | None:
        """That the broker takes none of these messages at present, though it may take others; None if it does."""
        if self._unconfirmed.last(0):
            count = self._unconfirmed.count
            return (
                f"RabbitMQ has not confirmed the last {count} messages: see whether the queue has a leader "
                "(rabbitmqctl list_queues name leader)"
            )
        if self._refused.last(_REFUSED_SECONDS):
            count = self._refused.count
            return (
                f"RabbitMQ has refused the last {count} messages: see whether the queue is full or unbound "
                "(rabbitmqctl list_queues name messages, list_bindings)"
            )
        return None

    def _usable(self) -> ConfirmChannel:
        obstacle = self._connection.obstacle()
        if obstacle is not None:
            raise BrokerRefused(obstacle)
        # A connection is up only when ``set_up`` has been through.
        assert self._channel is not None
        return self._channel

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
            raise BrokerRefused(
                f"RabbitMQ opened no new channel within {self._confirm_seconds:g} s, and on the old one a late answer "
                "to this message's first attempt would count for this one: retry"
            )
        return channel
