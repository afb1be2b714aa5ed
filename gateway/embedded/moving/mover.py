"""Moves stored messages on: each is removed only after its confirm, and those to one number keep their order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

from gateway.embedded.failures import DatabaseError
from gateway.embedded.filelock import FileLock
from gateway.embedded.moving.backlog import Backlog
from gateway.embedded.moving.lifetimes import Lifetimes
from gateway.embedded.outbox import Waiting
from pipeline.ports import BrokerUnknown

_PAGE = 500
_MOST_READ_AHEAD = 2000
_MOST_REMEMBERED = 100_000
# What a deletion writes is small enough for a disk that has just had no room.
_REMOVED_AT_ONCE, _REMOVED_AT_ONCE_WITHOUT_ROOM = 500, 20
_LOOK_AGAIN_SECONDS = 0.1
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0


def forward_lock(path: Path) -> Path:
    """The file whose lock belongs to who moves messages from the database at ``path``."""
    return path.with_name(f"{path.name}-forward")


class Source(Protocol):
    """Where messages are moved from, such as ``gateway.embedded.outbox.EmbeddedOutbox``."""

    async def waiting(self, after: int = 0, limit: int = 100) -> list[Waiting]:
        """The first ``limit`` messages behind the position ``after``, in order. Raises ``NotDone``."""

    async def remove(self, moved: Mapping[int, str]) -> None:
        """Forget messages that have been moved on, each tracking_id by its position. Raises ``DatabaseError``."""


class Destination(Protocol):
    """Where messages are moved to, such as ``gateway.rabbitmq.RabbitOutbox``."""

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        """Return when it is stored. Raises ``BrokerRefused`` or ``BrokerUnknown``."""


class Mover:
    """Moves messages from ``source`` to ``destination``, in order, and tries again for ever.

    At most ``window`` messages are published and not yet removed: so many may be moved again, under the same
    tracking_id, by whoever comes after a mover that was killed. Half of them may be in flight together, so that the
    others are removed meanwhile; after a failure it begins with one again. A message that has expired is moved with no
    time to live, so that it ends where expired messages end; a clock that is set forward meanwhile lets none expire.

    A file that cannot forget, since its disk is full, holds nothing up: what is confirmed is remembered, up to 100,000
    messages, and removed as soon as that succeeds.

    With ``lock_path`` one process moves at a time: the lock is taken when there is something to move and let go when
    there is not, or when it cannot be moved. ``is_waited_in`` says cheaply whether it is worth looking into the source.
    ``on_moved`` is told how many messages were confirmed, ``on_trouble`` of the error that makes it wait: the broker's,
    or a ``DatabaseError`` of the source's. ``on_empty`` is told, at the end of a backlog, how many messages it was.

    ``moved`` counts messages, ``expired`` those of them that had expired, ``repeated`` publishes that were tried again
    after an unknown outcome: so many messages may be there twice. ``unremoved`` are confirmed and still in the source.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        *,
        window: int = 1,
        lock_path: Path | None = None,
        is_waited_in: Callable[[], bool] = lambda: True,
        on_moved: Callable[[int], object] = lambda messages: None,
        on_trouble: Callable[[Exception], object] = lambda error: None,
        on_empty: Callable[[int], object] = lambda messages: None,
    ) -> None:
        self.moved = self.expired = self.repeated = 0
        self._source = source
        self._destination = destination
        self._window = window
        self._in_flight = 1
        self._lock_path = lock_path
        self._lock: FileLock | None = None
        self._is_waited_in = is_waited_in
        self._on_moved = on_moved
        self._on_trouble = on_trouble
        self._on_empty = on_empty
        self._moved_when_empty = 0
        self._backlog = Backlog()
        self._lifetimes = Lifetimes()
        # What the broker has confirmed and the source has not forgotten yet: its tracking_ids by position, in order.
        self._confirmed: dict[int, str] = {}
        self._removing: asyncio.Task[bool] | None = None
        self._cannot_remove = False
        self._remove_at = 0.0

    @property
    def unremoved(self) -> int:
        """How many messages are confirmed and still in the source: they would be moved again by another mover."""
        return len(self._confirmed)

    async def run(self, stop: asyncio.Event, *, follow: bool) -> None:
        """Move all that waits; with ``follow``, and all that comes, until ``stop`` is set.

        What is in flight then has its outcome before it returns.
        """
        pause = _FIRST_PAUSE_SECONDS
        try:
            while not stop.is_set():
                try:
                    if await self._move_some():
                        pause = _FIRST_PAUSE_SECONDS
                        continue
                    if not follow and not self._confirmed:
                        return
                    seconds = _LOOK_AGAIN_SECONDS
                except Exception as error:  # noqa: BLE001 - whatever it was: without the mover nothing arrives
                    self._in_flight = 1
                    self._on_trouble(error)
                    seconds, pause = pause, min(2 * pause, _LONGEST_PAUSE_SECONDS)
                if not self._confirmed:
                    # Another process may be better off.
                    self._let_go()
                await _sleep(seconds * random.uniform(0.5, 1), stop)  # noqa: S311 - no secret
            while self._confirmed and await self._remove():
                pass
        finally:
            self._let_go()

    async def _move_some(self) -> bool:
        """Move the next messages; False when there are none, or when they are another process's to move."""
        self._lifetimes.look()
        if not self._confirmed and not self._is_waited_in():
            self._tell_end()
            return False
        if not self._take_lock():
            return False
        room = _MOST_REMEMBERED if self._cannot_remove else self._window
        batch = await self._next(min(self._in_flight, room - len(self._confirmed)))
        if batch:
            await self._publish_all(batch)
        elif self._confirmed and not self._cannot_remove:
            # They are what keeps the next ones waiting, or the last ones.
            return await self._remove()
        self._remove_soon()
        return bool(batch)

    async def _next(self, most: int) -> list[Waiting]:
        backlog = self._backlog
        if most <= 0:
            return []
        if not backlog and not self._confirmed:
            backlog.clear()
        batch = backlog.next(most)
        if len(batch) < most and len(backlog) < _MOST_READ_AHEAD:
            backlog.add(await self._source.waiting(after=backlog.last, limit=_PAGE))
            batch = backlog.next(most)
        return batch

    async def _publish_all(self, batch: Sequence[Waiting]) -> None:
        """Publish messages, in order and together. Raises ``BrokerUnknown`` when one has failed."""
        outcomes = await asyncio.gather(*map(self._publish, batch), return_exceptions=True)
        confirmed = 0
        failed: BaseException | None = None
        for message, failure in zip(batch, outcomes, strict=True):
            if failure is None:
                self._backlog.remove(message.position)
                self._confirmed[message.position] = message.tracking_id
                confirmed += 1
            else:
                failed = failed or failure
        if confirmed:
            self.moved += confirmed
            self._on_moved(confirmed)
        if failed is not None:
            self._remove_soon()
            raise BrokerUnknown(str(failed)) from failed
        self._in_flight = min(2 * self._in_flight, max(1, self._window // 2))

    async def _publish(self, message: Waiting) -> None:
        ttl_ms = self._lifetimes.left_ms(message)
        try:
            await self._destination.publish_body(
                message.tracking_id, message.body, max(0, ttl_ms), message.created_at
            )
        except BrokerUnknown:
            self.repeated += 1
            raise
        self.expired += ttl_ms <= 0

    def _remove_soon(self) -> None:
        """Remove what is confirmed while the next ones are published."""
        is_removing = self._removing is not None and not self._removing.done()
        if self._confirmed and not is_removing and asyncio.get_running_loop().time() >= self._remove_at:
            self._removing = asyncio.create_task(self._remove_some())

    async def _remove(self) -> bool:
        """Remove what is confirmed, or part of it; False when that cannot be done now."""
        if self._removing is None or self._removing.done():
            self._removing = asyncio.create_task(self._remove_some())
        return await self._removing

    async def _remove_some(self) -> bool:
        most = _REMOVED_AT_ONCE_WITHOUT_ROOM if self._cannot_remove else _REMOVED_AT_ONCE
        moved = dict(islice(self._confirmed.items(), most))
        try:
            await self._source.remove(moved)
        except DatabaseError as error:
            self._on_trouble(error)
            self._cannot_remove = True
            self._remove_at = asyncio.get_running_loop().time() + _LONGEST_PAUSE_SECONDS
            return False
        for position in moved:
            del self._confirmed[position]
        self._cannot_remove = False
        return True

    def _tell_end(self) -> None:
        if self.moved > self._moved_when_empty:
            self._on_empty(self.moved - self._moved_when_empty)
            self._moved_when_empty = self.moved

    def _take_lock(self) -> bool:
        if self._lock_path is None:
            return True
        if self._lock is None:
            self._lock = FileLock(self._lock_path)
        return self._lock.take()

    def _let_go(self) -> None:
        # Another process may move what has been read here.
        self._backlog.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
