"""How much of its life a stored message has left, on a machine whose clock may be set."""

from __future__ import annotations

import time
from datetime import timedelta

from gateway.embedded.outbox import Waiting
from gateway.embedded.schema import now_ms

# A clock that is slewed, as it should be, is off by less between two looks.
_SET_MS = 2000
_MILLISECOND = timedelta(milliseconds=1)
# It goes on while the machine sleeps.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_ms() -> int:
    """Milliseconds by a clock that nobody sets."""
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000_000


class Lifetimes:
    """Tells lives by the clock on the wall, but does not believe it when it was set forward while messages waited.

    Such a message is not as old as it seems. ``look`` has to be called often enough to tell a clock that was set from
    one that has gone on. What was set before this object was made it cannot know.
    """

    def __init__(self) -> None:
        self._difference = now_ms() - steady_ms()
        # What the clock said when it was set forward, and by how much.
        self._set_forward: list[tuple[int, int]] = []

    def look(self) -> None:
        """See whether the clock was set since the last look."""
        now = now_ms()
        by = now - steady_ms() - self._difference
        self._difference += by
        if abs(by) < _SET_MS:
            return
        if by > 0:
            self._set_forward.append((now - by, by))
        # Set right again, as it seems; or it is taken back from messages that are then given a longer life.
        while by < 0 and self._set_forward:
            at, forward = self._set_forward.pop()
            by += forward
            if by > 0:
                self._set_forward.append((at, by))

    def left_ms(self, message: Waiting) -> int:
        """The milliseconds that are left of its life; 0 or less when it is over, and never more than it was given.

        Where a clock has lost its time it would be years, which RabbitMQ refuses.
        """
        created_ms = int(message.created_at.timestamp() * 1000)
        given = (message.expires_at - message.created_at) // _MILLISECOND
        seemed = sum(by for at, by in self._set_forward if created_ms <= at)
        return min(given, given - (now_ms() - created_ms - seemed))
