"""Asks the broker to confirm a message that goes nowhere: the only question whose answer shows that it takes publishes.

A broker that is low on memory or disk tells a connection so only when that connection next publishes, and goes on
answering everything else. Without a probe the first message after an alarm would be the one that finds out, and its
outcome would be unknown.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.rabbitmq.channel import ConfirmChannel, Unconfirmed
from gateway.rabbitmq.connection import BLOCKED, BrokerConnection
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerRefused, BrokerUnknown

_INTERVAL_SECONDS = 1.0
_POLL_SECONDS = 0.02


class Probe:
    """Probes a connection, whose ``set_up`` must call this one's, every second and whenever it is asked.

    ``kind`` names an exchange that drops what it is given: nothing is bound to it by the kind's routing key.
    """

    def __init__(self, connection: BrokerConnection, kind: Kind, confirm_seconds: float) -> None:
        self._connection = connection
        self._kind = kind
        self._confirm_seconds = confirm_seconds
        self._channel: ConfirmChannel | None = None
        self._probing: asyncio.Task[str | None] | None = None

    async def set_up(self, session: Session) -> None:
        """Return when the broker has answered a first probe, or has blocked the connection.

        Raises ``BrokerRefused`` when it did not confirm.
        """
        stale = self._channel
        self._channel = channel = await ConfirmChannel.open(session, self._kind, self._confirm_seconds)
        if stale is not None:
            self._connection.spawn(stale.retire())
        self._probing = self._connection.spawn(self._probe(channel))
        reason = await _answer(self._probing, lambda: None if session.is_unblocked else BLOCKED)
        if reason not in (None, BLOCKED):
            raise BrokerRefused(reason)

    def start(self) -> None:
        """Begin to probe, until the connection is closed."""
        self._connection.spawn(self._probe_for_ever())

    async def ping(self) -> None:
        """Return when the broker has just confirmed a probe. Raises ``BrokerRefused`` with the reason why not."""
        reason = self._connection.obstacle()
        if reason is None:
            reason = await _answer(self._begin(), self._connection.obstacle)
        if reason is not None:
            raise BrokerRefused(reason)

    async def _probe_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            if self._connection.obstacle() is None:
                self._begin()

    def _begin(self) -> asyncio.Task[str | None]:
        """The probe in flight, or else a new one: whoever asks shares it, and who stops waiting does not disturb it."""
        assert self._channel is not None
        if self._probing is None or self._probing.done():
            self._probing = self._connection.spawn(self._probe(self._channel))
        return self._probing

    async def _probe(self, channel: ConfirmChannel) -> str | None:
        """Why the broker did not confirm; None when it did."""
        try:
            # Should the exchange pass it on after all, it expires at once.
            await channel.publish(str(uuid.uuid4()), b"", datetime.now(UTC), ttl_ms=0)
        except Unconfirmed as error:
            self._connection.unconfirmed(self._confirm_seconds)
            return str(error)
        except (BrokerRefused, BrokerUnknown) as error:
            if channel is self._channel:
                self._connection.renew()
            return str(error)
        self._connection.confirmed()
        return None


async def _answer(probing: asyncio.Task[str | None], obstacle: Callable[[], str | None]) -> str | None:
    """What a probe found, or the obstacle that it ran into."""
    while not probing.done():
        if (reason := obstacle()) is not None:
            return reason
        await asyncio.wait({probing}, timeout=_POLL_SECONDS)
    return "the gateway is closing" if probing.cancelled() else probing.result()
