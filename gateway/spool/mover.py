"""Moves what waits in the spool to the broker, in order: each message is removed only after its confirm."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import orjson
from loguru import logger

from gateway.embedded.filelock import FileLock
from gateway.embedded.mover import Destination
from gateway.embedded.outbox import EmbeddedOutbox, Waiting
from pipeline.ports import BrokerUnknown

_MOST_IN_FLIGHT = 128
_LOOK_AGAIN_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_MILLISECOND = timedelta(milliseconds=1)


class Source(Protocol):
    """What the mover needs of a ``gateway.spool.Spool``."""

    outbox: EmbeddedOutbox
    path: Path

    def is_waited_in(self) -> bool:
        """Whether any message waits."""


class SpoolMover:
    """Moves messages from ``spool`` to ``destination``, for ever; ``on_moved`` is told how many were confirmed.

    Every process has one, and one at a time moves: a lock on a file, which ends with its holder, however that ends. It
    is the lock of ``sms-gateway forward``. Whoever is killed leaves messages behind that may be on the queue already:
    they are moved again, under the same tracking_id. What has expired is moved with no time to live, so that it ends
    where expired messages end.

    Several messages are in flight at once, handed over in their order, so that the spool can empty faster than it
    fills; after a failure it begins with one again. Two messages to one number never are: should the broker refuse the
    first and take the second, they would arrive in the wrong order.
    """

    def __init__(self, spool: Source, destination: Destination, on_moved: Callable[[int], object]) -> None:
        self._spool = spool
        self._destination = destination
        self._on_moved = on_moved
        self._lock: FileLock | None = None
        self._stopping = asyncio.Event()
        self._in_flight = 1
        self._moved = 0
        # Positions of what the broker has confirmed and the file has not forgotten yet.
        self._confirmed: list[int] = []

    def stop(self) -> None:
        """Have ``run`` return, when what is in flight has its outcome."""
        self._stopping.set()

    async def run(self) -> None:
        """Move all that waits and all that comes, until ``stop``."""
        pause = _LOOK_AGAIN_SECONDS
        try:
            while not self._stopping.is_set():
                try:
                    if await self._move_some():
                        pause = _LOOK_AGAIN_SECONDS
                        continue
                except Exception as error:  # noqa: BLE001 - whatever it was: without the mover nothing arrives
                    self._in_flight = 1
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                    logger.debug("the spool has to wait: {}", error)
                if not self._confirmed:
                    # Another process may be better off.
                    self._let_go()
                await self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
        finally:
            self._let_go()

    async def _move_some(self) -> bool:
        """Move the first messages; False when none waits, or when they are another process's to move."""
        if not self._confirmed and not self._spool.is_waited_in():
            self._tell_end()
            return False
        if not self._take_lock():
            return False
        await self._forget()
        batch = _apart(await self._spool.outbox.waiting(limit=self._in_flight))
        outcomes = await asyncio.gather(*map(self._publish, batch), return_exceptions=True)
        confirmed = [message for message, failure in zip(batch, outcomes, strict=True) if failure is None]
        self._confirmed = [message.position for message in confirmed]
        await self._forget()
        for failure in outcomes:
            if failure is not None:
                raise BrokerUnknown(str(failure)) from failure
        self._in_flight = min(2 * self._in_flight, _MOST_IN_FLIGHT)
        return True

    async def _publish(self, message: Waiting) -> None:
        ttl_ms = (message.expires_at - datetime.now(UTC)) // _MILLISECOND
        await self._destination.publish_body(
            message.tracking_id, message.body, max(0, ttl_ms), message.created_at
        )

    async def _forget(self) -> None:
        """Remove what was confirmed. Until that succeeds nothing else is moved: it would be moved time and again."""
        if self._confirmed:
            await self._spool.outbox.remove(self._confirmed)
            self._on_moved(len(self._confirmed))
            self._moved += len(self._confirmed)
            self._confirmed = []

    def _tell_end(self) -> None:
        if self._moved:
            logger.info("the spool is empty again: {} messages have been moved to RabbitMQ", self._moved)
            self._moved = 0

    def _take_lock(self) -> bool:
        if self._lock is None:
            path = self._spool.path
            self._lock = FileLock(path.with_name(f"{path.name}-forward"))
        return self._lock.take()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _apart(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The first messages, up to one whose number is already among theirs."""
    numbers: set[str] = set()
    found: list[Waiting] = []
    for message in waiting:
        number = orjson.loads(message.body)["to"]
        if number in numbers:
            break
        numbers.add(number)
        found.append(message)
    return found
