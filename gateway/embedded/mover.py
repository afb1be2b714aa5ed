"""Moves stored messages on, in order: each is removed only after the next outbox has confirmed it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from gateway.embedded.failures import DatabaseError
from gateway.embedded.outbox import EmbeddedOutbox, Waiting
from pipeline.ports import BrokerRefused, BrokerUnknown

T = TypeVar("T")

_PAGE = 100
_LOOK_AGAIN_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_MILLISECOND = timedelta(milliseconds=1)


class Destination(Protocol):
    """Where messages are moved to, such as ``gateway.rabbitmq.RabbitOutbox``."""

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        """Return when it is stored. Raises ``BrokerRefused`` or ``BrokerUnknown``."""


class _Stopped(Exception):
    """The mover was told to stop while it waited."""


class Mover:
    """Moves messages from ``source`` to ``destination``, one at a time, and tries again for ever.

    So when it is killed, the one message in flight may be moved a second time, under the same tracking_id. A message
    that has expired is moved all the same, with no time to live, so that it ends where expired messages end. ``notice``
    is told, in words for people, why it waits.

    ``moved`` counts messages, ``expired`` those of them that had expired, ``repeated`` publishes that were tried again
    after an unknown outcome: so many messages may be there twice.
    """

    def __init__(
        self, source: EmbeddedOutbox, destination: Destination, notice: Callable[[str], None]
    ) -> None:
        self.moved = 0
        self.expired = 0
        self.repeated = 0
        self._source = source
        self._destination = destination
        self._notice = notice

    async def run(self, stop: asyncio.Event, *, follow: bool) -> None:
        """Move all that waits; with ``follow``, and all that comes, until ``stop`` is set."""
        with suppress(_Stopped):
            while True:
                waiting = await self._insist(partial(self._source.waiting, limit=_PAGE), stop)
                for message in waiting:
                    await self._move(message, stop)
                if not waiting:
                    if not follow:
                        return
                    await _pause(_LOOK_AGAIN_SECONDS, stop)

    async def _move(self, message: Waiting, stop: asyncio.Event) -> None:
        if stop.is_set():
            raise _Stopped
        has_expired = await self._insist(partial(self._publish, message), stop)
        await self._insist(partial(self._source.remove, [message.position]), stop)
        self.moved += 1
        self.expired += has_expired

    async def _publish(self, message: Waiting) -> bool:
        ttl_ms = (message.expires_at - datetime.now(UTC)) // _MILLISECOND
        try:
            await self._destination.publish_body(
                message.tracking_id, message.body, max(0, ttl_ms), message.created_at
            )
        except BrokerUnknown:
            self.repeated += 1
            raise
        return ttl_ms <= 0

    async def _insist(self, step: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T:
        seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await step()
            except (BrokerRefused, BrokerUnknown, DatabaseError) as error:
                self._notice(f"waiting: {error}")
            await _pause(seconds * random.uniform(0.5, 1), stop)  # noqa: S311 - no secret
            seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
        raise _Stopped
