"""What a mover has read ahead of what waits, and which of it may be published next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from gateway.embedded.outbox import Waiting, recipient

# Longer than any request lives: what is older was not on its way then, but a clock has been set.
_LONGEST_REQUEST = timedelta(seconds=30)


class Backlog:
    """Messages in the order of their positions, which ``add`` extends and ``remove`` shortens.

    Messages to one number keep their order even when the broker refuses one and takes the next: so the second is not
    in flight while the first is, nor overtakes it. Unless it was on its way already when the first was being stored:
    then nobody had seen the 202 of the first, and there is no order between the two. Of times on both sides of a moment
    at which the clock was set back nothing is concluded.
    """

    def __init__(self) -> None:
        self.last = 0
        """The last position that was added."""
        # By position: the number, after how many times that the clock was set back it was stored, and the message.
        self._messages: dict[int, tuple[str, int, Waiting]] = {}
        self._times_set_back = 0
        self._stored_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[Waiting]) -> None:
        """Add messages from behind ``last``, in order."""
        for message in messages:
            # One after the other was stored, so only a clock that was set back can say otherwise.
            if self._stored_at and message.stored_at and message.stored_at < self._stored_at:
                self._times_set_back += 1
            self._stored_at = message.stored_at or self._stored_at
            self._messages[message.position] = recipient(message.body), self._times_set_back, message
            self.last = message.position

    def remove(self, position: int) -> None:
        """Forget a message that has been published."""
        del self._messages[position]

    def clear(self) -> None:
        """Forget everything, positions too: in a file that took the place of a lost one they begin again."""
        self._messages.clear()
        self.last = 0

    def next(self, most: int) -> list[Waiting]:
        """The first messages that may be in flight together, in order, and no more than so many.

        A number whose message must wait is passed over, with all that follow to it.
        """
        found: list[Waiting] = []
        # By number, before when a message must have been on its way to go with those that were found (None is never),
        # and after how many times that the clock was set back.
        open_until: dict[str, tuple[datetime | None, int]] = {}
        for number, times_set_back, message in self._messages.values():
            until, known_after = open_until.get(number, (message.stored_at, times_set_back))
            if number in open_until:
                if until is None or times_set_back != known_after or not _was_on_its_way(message, until):
                    open_until[number] = None, known_after
                    continue
                until = None if message.stored_at is None else min(until, message.stored_at)
            open_until[number] = until, known_after
            found.append(message)
            if len(found) == most:
                break
        return found


def _was_on_its_way(message: Waiting, moment: datetime) -> bool:
    return moment - _LONGEST_REQUEST < message.created_at < moment
