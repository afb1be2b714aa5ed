"""The exchanges and queues that the gateway shares with the delivery side, and how they are declared."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from aiormq import ChannelAccessRefused, ChannelClosed, ChannelPreconditionFailed
from aiormq.abc import AbstractChannel

QUEUE_TYPES = ("quorum", "classic")

HEARTBEAT_QUEUE_LENGTH = 1000
"""How many heartbeats wait for a delivery side that is not there; older ones give way."""


class TopologyRefused(Exception):
    """The broker refused a declaration. The text says which one, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Names, and the queues' type.

    ``queue`` is bound to ``exchange`` (direct) by its own name, and so is ``dead_queue`` to ``dead_exchange``, where
    expired and rejected messages go. ``heartbeat_queue`` is bound to ``heartbeat_exchange`` (fanout). All are durable.
    Raises ``ValueError`` for a ``queue_type`` other than ``quorum`` and ``classic``.
    """

    exchange: str = "sms.outbound"
    queue: str = "sms.outbound"
    queue_type: str = "quorum"
    heartbeat_exchange: str = "sms.heartbeat"
    heartbeat_queue: str = "sms.heartbeat"

    def __post_init__(self) -> None:
        if self.queue_type not in QUEUE_TYPES:
            raise ValueError(f"queue_type must be one of: {', '.join(QUEUE_TYPES)}")

    @property
    def dead_queue(self) -> str:
        """Where expired and rejected messages wait."""
        return self.queue + ".dead"

    @property
    def dead_exchange(self) -> str:
        """The exchange through which they get there."""
        return self.queue + ".dead"

    async def declare_outbound(self, channel: AbstractChannel) -> None:
        """Declare everything that a message passes. Raises ``TopologyRefused``; the channel is closed then."""
        # The dead-letter side first: no message may ever expire into a missing exchange.
        await self._declare_exchange(channel, self.dead_exchange, "direct")
        await self._declare_queue(channel, self.dead_queue, {"x-queue-type": self.queue_type})
        await self._bind(channel, self.dead_queue, self.dead_exchange, self.dead_queue)
        await self._declare_exchange(channel, self.exchange, "direct")
        await self._declare_queue(channel, self.queue, self._outbound_arguments())
        await self._bind(channel, self.queue, self.exchange, self.queue)

    async def declare_heartbeats(self, channel: AbstractChannel) -> None:
        """Declare what heartbeats pass. Raises ``TopologyRefused``; the channel is closed then."""
        await self._declare_exchange(channel, self.heartbeat_exchange, "fanout")
        await self._declare_queue(
            channel,
            self.heartbeat_queue,
            {
                "x-queue-type": self.queue_type,
                "x-max-length": HEARTBEAT_QUEUE_LENGTH,
                "x-overflow": "drop-head",
            },
        )
        await self._bind(channel, self.heartbeat_queue, self.heartbeat_exchange, "")

    def _outbound_arguments(self) -> dict[str, str]:
        arguments = {
            "x-queue-type": self.queue_type,
            # A queue that an operator's policy bounds must refuse what is new; by default it would drop what was
            # accepted.
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": self.dead_exchange,
            "x-dead-letter-routing-key": self.dead_queue,
        }
        if self.queue_type == "quorum":
            # Otherwise a message on its way to the dead-letter queue may be lost.
            arguments["x-dead-letter-strategy"] = "at-least-once"
        return arguments

    async def _declare_exchange(self, channel: AbstractChannel, exchange: str, kind: str) -> None:
        declared = channel.exchange_declare(exchange, exchange_type=kind, durable=True)
        await _declaration(f"exchange '{exchange}'", declared)

    async def _declare_queue(
        self, channel: AbstractChannel, queue: str, arguments: Mapping[str, str | int]
    ) -> None:
        declared = channel.queue_declare(queue, durable=True, arguments={**arguments})
        await _declaration(f"queue '{queue}'", declared)

    async def _bind(self, channel: AbstractChannel, queue: str, exchange: str, key: str) -> None:
        bound = channel.queue_bind(queue, exchange, key)
        await _declaration(f"binding of queue '{queue}' to exchange '{exchange}'", bound)


async def _declaration(what: str, declared: Awaitable[object]) -> None:
    try:
        await declared
    except ChannelPreconditionFailed as error:
        raise TopologyRefused(
            f"the {what} exists on the broker with other properties than this gateway declares: {error}. "
            "Configure the name or type that exists, or another name; or delete it once it is empty, and it is "
            "created anew within seconds"
        ) from error
    except ChannelAccessRefused as error:
        raise TopologyRefused(
            f"the broker does not let this user declare the {what}: {error}. Grant it the permissions to "
            "configure, write and read these names"
        ) from error
    except ChannelClosed as error:
        raise TopologyRefused(f"the broker does not declare the {what}: {error}") from error
