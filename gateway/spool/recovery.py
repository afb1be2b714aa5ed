"""Whether a broker that has failed takes messages again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

# A queue at its bound takes a message now and then: that is no recovery, and those who have waited for it go first.
CALM_SECONDS = 2.0
_PING_SECONDS = 1.0


class Recovery:
    """Of one broker, as this process hears of it: it has recovered when it confirms and has not failed for 2 s.

    A process that leaves moving to another hears nothing: it asks with ``ping``, in the background.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        # Not known at first: what waits has come there for a reason.
        self._failed_at = time.monotonic()
        self._is_confirmed = False
        self._asking: asyncio.Task[None] | None = None

    def failed(self) -> None:
        """It has refused a message, or not confirmed it."""
        self._failed_at = time.monotonic()
        self._is_confirmed = False

    def confirmed(self) -> None:
        """It has confirmed a message."""
        self._is_confirmed = True

    def is_over(self) -> bool:
        """Whether it has recovered. Never waits."""
        if time.monotonic() - self._failed_at < CALM_SECONDS:
            return False
        if not self._is_confirmed and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask())
        return self._is_confirmed

    def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._ping()
        except Exception:  # noqa: BLE001 - whatever it was, it has not answered
            self._failed_at = time.monotonic()
        else:
            self._is_confirmed = self._is_confirmed or self._failed_at < asked_at
