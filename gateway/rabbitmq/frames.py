"""How one publish is handed to aiormq: the place where cheaper frames would be packed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aiormq import Channel, spec

_PERSISTENT = 2
_TRANSIENT = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """What all messages of one kind have in common. A ``mandatory`` one must reach a queue or is returned."""

    exchange: str
    routing_key: str
    type: str
    app_id: str
    mandatory: bool = False
    persistent: bool = True


async def publish(
    channel: Channel,
    kind: Kind,
    message_id: str,
    body: bytes,
    created_at: datetime,
    ttl_ms: int | None,
    confirm_seconds: float,
) -> None:
    """Publish on a confirming channel, and return when the broker has acked.

    The frames are on their way before anything is awaited, unless the channel's lock or its connection's write queue
    keep them waiting. Raises what ``aiormq.Channel.basic_publish`` raises.
    """
    properties = spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=_PERSISTENT if kind.persistent else _TRANSIENT,
        expiration=None if ttl_ms is None else str(ttl_ms),
        message_id=message_id,
        timestamp=created_at,
        message_type=kind.type,
        app_id=kind.app_id,
    )
    await channel.basic_publish(
        body,
        exchange=kind.exchange,
        routing_key=kind.routing_key,
        properties=properties,
        mandatory=kind.mandatory,
        timeout=confirm_seconds,
        # The confirm is waited for; to wait for the socket too would serialise publishes behind the channel's lock.
        wait=False,
    )
