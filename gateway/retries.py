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

RETRY_SECONDS = 240.0
"""How long a step is tried again; the record that tells whether a message was taken lives a little longer."""

_MOST_WAITING = 100_000
_PAUSE_SECONDS = 0.25
_WARNING_SECONDS = 10.0
# A store that is known to be away fails at once, and requests want the processor, too.
_MOST_FAILED_IN_A_ROW = 100
_LAST_CHANCE_SECONDS = 1.0

_CONSEQUENCE = "What they give back may stay counted"

_FAILED = (StoreUnavailable, asyncio.CancelledError)

_Retry = Callable[[], Awaitable[None]]


class RetryingStore:
    """A store whose ``complete``, ``give_back``, ``release`` and ``suspend`` are tried again in the background.

    They raise ``StoreUnavailable`` all the same, so that the failure is logged and counted where it happened.
    ``on_given_up`` is told of each step that is tried no more, with one of ``gateway.dependency.GIVEN_UP``.
    """

    def __init__(self, store: Store, on_given_up: Callable[[str], None] = lambda reason: None) -> None:
        self.store = store
        self._on_given_up = on_given_up
        self._refused = 0
        self._next_warning = 0.0
        self._waiting: deque[tuple[float, _Retry]] = deque()
        self._retrying: asyncio.Task[None] | None = None

    def begin(self, claim: Claim) -> Step[Begun | Replay | InProgress | OtherPayload]:
        """See ``pipeline.ports.Claims``."""
        return self.store.begin(claim)

    def arm(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self.store.arm(claim)

    def complete(self, claim: Claim, answer: Answer) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._now_or_later(partial(self.store.complete, claim, answer))

    def release(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._now_or_later(partial(self.store.release, claim))

    def suspend(self, claim: Claim) -> Step[None]:
        """See ``pipeline.ports.Claims``."""
        return self._now_or_later(partial(self.store.suspend, claim))

    def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Step[Reservation | QuotaExceeded]:
        """See ``pipeline.ports.Quotas``."""
        return self.store.take(client, day, token, claim)

    def give_back(self, reservation: Reservation) -> Step[None]:
        """See ``pipeline.ports.Quotas``."""
        return self._now_or_later(partial(self.store.give_back, reservation))

    async def close(self) -> None:
        """Give what still waits one last chance."""
        if self._retrying is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CHANCE_SECONDS):
                    await asyncio.shield(self._retrying)
            self._retrying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._retrying
        if self._waiting:
            logger.warning("{} steps on the store could not be taken before the end", len(self._waiting))

    async def _now_or_later(self, step: _Retry) -> None:
        try:
            await step()
        except _FAILED:
            self._retry_later(step)
            raise

    def _retry_later(self, step: _Retry) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((time.monotonic() + RETRY_SECONDS, step))
        else:
            self._refuse()
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry(), name="retries")

    def _refuse(self) -> None:
        """Give a step up for want of room; at most one warning in ten seconds tells how many."""
        self._on_given_up("full")
        self._refused += 1
        if time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + _WARNING_SECONDS
            self._tell_refused()

    def _tell_refused(self) -> None:
        logger.warning(
            "{} steps on the store were given up, since {} wait to be retried already. {}",
            self._refused,
            _MOST_WAITING,
            _CONSEQUENCE,
        )
        self._refused = 0

    async def _retry(self) -> None:
        """Take the steps in turn until none waits; a round of which each failed is reason to pause."""
        given_up = 0
        failed_in_a_row = 0
        while self._waiting:
            if failed_in_a_row >= min(len(self._waiting), _MOST_FAILED_IN_A_ROW):
                failed_in_a_row = 0
                await asyncio.sleep(_PAUSE_SECONDS)
            until, step = self._waiting.popleft()
            if time.monotonic() > until:
                given_up += 1
                self._on_given_up("expired")
                continue
            try:
                await step()
            except StoreUnavailable:
                failed_in_a_row += 1
                # Behind the others, for theirs may be another primary of the Cluster.
                self._waiting.append((until, step))
                await asyncio.sleep(0)
                continue
            except ClaimLost:
                pass  # It was done the first time, or another request has resumed the claim.
            except asyncio.CancelledError:
                self._waiting.appendleft((until, step))  # The end counts what still waits.
                raise
            except Exception:  # noqa: BLE001 - a bug with one step must not keep the others from being taken
                logger.exception("a step on the store could not be taken")
            failed_in_a_row = 0
        if given_up:
            logger.warning(
                "{} steps on the store were not taken within {:g} s: given up. {}",
                given_up,
                RETRY_SECONDS,
                _CONSEQUENCE,
            )
        if self._refused:
            self._tell_refused()
