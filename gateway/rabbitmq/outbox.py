"""The outbox on RabbitMQ: a message is persistent, routed and confirmed, or its failure says what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from gateway.dependency import ConnectionWatcher
from gateway.rabbitmq.connection import BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.probe import Probe
from gateway.rabbitmq.publisher import Publisher
from gateway.rabbitmq.session import Session
from gateway.rabbitmq.topology import Topology
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused, BrokerUnknown

MESSAGE_TYPE = "sms.outbound.v1"

_Failure = BrokerRefused | BrokerUnknown


class RabbitOutbox:
    """The ports ``Outbox`` and ``Dependency`` on one connection of its own.

    ``url`` is an AMQP URL, or several of one cluster separated by commas; ``app_id`` is this service's name;
    ``confirm_seconds`` bounds each publish; ``on_connection`` hears when messages can be published and when not. Raises
    ``ValueError``, which does not repeat the URL, for a URL that is none.
    """

    name = "broker"

    def __init__(
        self,
        url: str,
        topology: Topology,
        app_id: str,
        *,
        confirm_seconds: float = 5.0,
        on_connection: ConnectionWatcher = lambda up: None,
    ) -> None:
        message = Kind(topology.exchange, topology.queue, MESSAGE_TYPE, app_id, mandatory=True)
        probe = Kind(topology.exchange, topology.queue + ".probe", "sms.probe", app_id, persistent=False)
        self._topology = topology
        self._connection = BrokerConnection(url, f"{app_id} publishing", self._set_up, on_connection)
        self._publisher = Publisher(self._connection, message, confirm_seconds)
        self._probe = Probe(self._connection, probe, confirm_seconds)
        # By tracking_id; the future is there once another publish of that id waits for this one's outcome.
        self._in_flight: dict[str, asyncio.Future[_Failure | None] | None] = {}

    async def start(self) -> None:
        """Begin to connect, and return at once."""
        self._connection.start()
        self._probe.start()

    async def ping(self) -> None:
        """Return when the broker has just confirmed a publish. Raises ``BrokerRefused``, whose text says why not."""
        await self._probe.ping()
        # The probe passes no queue: one that is full, or has no leader, is found by what was sent to it.
        if complaint := self._publisher.complaint():
            raise BrokerRefused(complaint)

    async def close(self) -> None:
        """Close the connection. A publish still in flight ends as ``BrokerUnknown``."""
        await self._connection.close()

    def publish(self, envelope: Envelope) -> Coroutine[Any, Any, None]:
        """Return when the envelope is stored durably and routed.

        Raises ``BrokerRefused``, at once while the broker is known to be away or blocked, or ``BrokerUnknown``.
        """
        return self.publish_body(
            envelope.tracking_id,
            envelope.to_json(),
            envelope.message.ttl_seconds * 1000,
            envelope.created_at,
        )

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        """As ``publish``, with an envelope's JSON as it was stored before; ``created_at`` is aware.

        After ``ttl_ms`` milliseconds, 0 or more, the broker moves it to the dead-letter queue. Who publishes a
        tracking_id that is in flight already shares that publish's outcome.
        """
        if tracking_id in self._in_flight:
            await self._follow(tracking_id)
            return
        self._in_flight[tracking_id] = None
        outcome: _Failure | None = BrokerUnknown("the publish was given up before the broker answered")
        try:
            await self._publisher.publish(tracking_id, body, created_at, ttl_ms)
            outcome = None
        except (BrokerRefused, BrokerUnknown) as failure:
            outcome = failure
            raise
        finally:
            followed = self._in_flight.pop(tracking_id)
            if followed is not None:
                followed.set_result(outcome)

    async def _follow(self, tracking_id: str) -> None:
        followed = self._in_flight[tracking_id]
        if followed is None:
            followed = self._in_flight[tracking_id] = asyncio.get_running_loop().create_future()
        # Shielded: a follower that is cancelled takes nobody else's outcome away.
        failure = await asyncio.shield(followed)
        if failure is not None:
            raise type(failure)(*failure.args) from failure

    async def _set_up(self, session: Session) -> None:
        channel = await session.channel(publisher_confirms=False)
        await self._topology.declare_outbound(channel)
        await channel.close()
        await self._publisher.set_up(session)
        await self._probe.set_up(session)
