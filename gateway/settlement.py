"""A request's last steps on the store, made to happen in the end when the store fails them at first.

A refusal costs nothing: not even where the store went away between taking and giving back. Each of these steps is
marked by its token and changes nothing the second time, so it may be repeated until the store answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial

from loguru import logger

from gateway.dependency import Step, Store
from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, ClaimLost, InProgress, OtherPayload, QuotaExceeded, Replay, StoreUnavailable

OWED_SECONDS = 240.0
"""How long a step is tried again; the record that tells whether a message was taken lives a little longer."""

_MOST_OWED = 100_000
_PAUSE_SECONDS = 0.25
# A store that is known to be away fails at once, and requests want the processor, too.
_MOST_FAILED_IN_A_ROW = 100
_LAST_CHANCE_SECONDS = 1.0

_UNSETTLED = (StoreUnavailable, asyncio.CancelledError)

_Owed = Callable[[], Awaitable[None]]


class SettlingStore:
    """A store whose ``complete``, ``give_back``, ``release`` and ``suspend`` are tried again in the background.

    They raise ``StoreUnavailable`` all the same, so that the failure is logged and counted where it happened.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._owed: deque[tuple[float, _Owed]] = deque()
        self._settling: asyncio.Task[None] | None = None

    def begin(self, claim: Claim) -> Step[Begun | Replay | InProgress | OtherPayload]:
        """See ``pipeline.ports.Claims``."""
        return self.store.begin(claim)

    def arm(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self.store.arm(claim)

    async def complete(self, claim: Claim, answer: Answer) -> None:
        """See ``pipeline.ports.Claims``."""
        try:
            await self.store.complete(claim, answer)
        except _UNSETTLED:
            self._owe(partial(self.store.complete, claim, answer))
            raise

    async def release(self, claim: Claim) -> None:
        """See ``pipeline.ports.Claims``."""
        try:
            await self.store.release(claim)
        except _UNSETTLED:
            self._owe(partial(self.store.release, claim))
            raise

    async def suspend(self, claim: Claim) -> None:
        """See ``pipeline.ports.Claims``."""
        try:
            await self.store.suspend(claim)
        except _UNSETTLED:
            self._owe(partial(self.store.suspend, claim))
            raise

    def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Step[Reservation | QuotaExceeded]:
        """See ``pipeline.ports.Quotas``."""
        return self.store.take(client, day, token, claim)

    async def give_back(self, reservation: Reservation) -> None:
        """See ``pipeline.ports.Quotas``."""
        try:
            await self.store.give_back(reservation)
        except _UNSETTLED:
            self._owe(partial(self.store.give_back, reservation))
            raise

    async def close(self) -> None:
        """Give what is still owed one last chance."""
        if self._settling is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CHANCE_SECONDS):
                    await asyncio.shield(self._settling)
            self._settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._settling
        if self._owed:
            logger.warning("{} steps on the store could not be taken before the end", len(self._owed))

    def _owe(self, step: _Owed) -> None:
        if len(self._owed) < _MOST_OWED:
            self._owed.append((time.monotonic() + OWED_SECONDS, step))
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle(), name="settlement")

    async def _settle(self) -> None:
        """Take the owed steps in turn until there are none; a round of which each failed is reason to pause."""
        given_up = 0
        failed_in_a_row = 0
        while self._owed:
            if failed_in_a_row >= min(len(self._owed), _MOST_FAILED_IN_A_ROW):
                failed_in_a_row = 0
                await asyncio.sleep(_PAUSE_SECONDS)
            until, step = self._owed.popleft()
            if time.monotonic() > until:
                given_up += 1
                continue
            try:
                await step()
            except StoreUnavailable:
                failed_in_a_row += 1
                # Behind the others, for theirs may be another primary of the Cluster.
                self._owed.append((until, step))
                await asyncio.sleep(0)
                continue
            except ClaimLost:
                pass  # It was done the first time, or another request has resumed the claim.
            except asyncio.CancelledError:
                self._owed.appendleft((until, step))  # The end counts what is still owed.
                raise
            except Exception:  # noqa: BLE001 - a bug with one step must not keep the others from being taken
                logger.exception("a step on the store could not be taken")
            failed_in_a_row = 0
        if given_up:
            logger.warning(
                "{} steps on the store were not taken within {} s: given up", given_up, OWED_SECONDS
            )
