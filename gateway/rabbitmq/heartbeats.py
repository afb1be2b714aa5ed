"""Heartbeats over RabbitMQ, on a connection of their own: whatever happens to them, publishing goes on."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from aiormq.abc import AbstractChannel, DeliveredMessage

from gateway.rabbitmq.connection import BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.publisher import Publisher
from gateway.rabbitmq.session import Session
from gateway.rabbitmq.topology import Topology

_logger = logging.getLogger(__name__)

MESSAGE_TYPE = "sms.heartbeat.v1"


class RabbitHeartbeats:
    """The port ``HeartbeatBus``. Arguments and errors are those of ``RabbitOutbox``."""

    def __init__(self, url: str, topology: Topology, app_id: str, *, confirm_seconds: float = 5.0) -> None:
        heartbeat = Kind(topology.heartbeat_exchange, "", MESSAGE_TYPE, app_id)
        self._topology = topology
        self._connection = BrokerConnection(url, f"{app_id} heartbeats", self._set_up)
        self._publisher = Publisher(self._connection, heartbeat, confirm_seconds)
        self._receive: Callable[[bytes], None] | None = None
        self._listening: AbstractChannel | None = None

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """Call ``receive`` with each heartbeat that arrives from now on, our own included."""
        self._receive = receive

    async def start(self) -> None:
        """Begin to connect, and return at once."""
        self._connection.start()

    async def send(self, heartbeat: bytes) -> None:
        """Return when the broker has taken it. Raises ``BrokerRefused`` or ``BrokerUnknown``."""
        await self._publisher.publish(str(uuid.uuid4()), heartbeat, datetime.now(UTC))

    async def close(self) -> None:
        """Close the connection, and with it the queue that listened."""
        await self._connection.close()

    async def _set_up(self, session: Session) -> None:
        channel = await session.channel(publisher_confirms=False)
        await self._topology.declare_heartbeats(channel)
        await channel.close()
        await self._publisher.set_up(session)
        if self._receive is not None:
            await self._listen(session, self._receive)

    async def _listen(self, session: Session, receive: Callable[[bytes], None]) -> None:
        """Take what arrives from now on, through a queue that lives as long as this connection."""

        async def deliver(message: DeliveredMessage) -> None:
            try:
                receive(message.body)
            except Exception:
                _logger.exception("a heartbeat could not be handled")

        stale, self._listening = self._listening, None
        if stale is not None:
            await stale.close()
        channel = await session.channel(publisher_confirms=False)
        declared = await channel.queue_declare(exclusive=True, auto_delete=True)
        queue = str(declared.queue)
        await channel.queue_bind(queue, self._topology.heartbeat_exchange)
        await channel.basic_consume(queue, deliver, no_ack=True)
        self._listening = channel
        # Somebody deleted our queue, or the broker closed the channel: listen anew.
        channel.on_consumer_cancel_callbacks.add(lambda _: self._connection.renew())
        channel.closing.add_done_callback(lambda _: self._closed(channel))

    def _closed(self, channel: AbstractChannel) -> None:
        if channel is self._listening:
            self._connection.renew()
