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
    then nobody had seen the 202 of the first, and there is no order between the two.
    """

    def __init__(self) -> None:
        self.last = 0
        """The last position that was added."""
        self._messages: dict[int, tuple[str, Waiting]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[Waiting]) -> None:
        """Add messages from behind ``last``, in order."""
        for message in messages:
            self._messages[message.position] = recipient(message.body), message
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
        # By number, before when a message must have been on its way to go with those that were found; None is never.
        open_until: dict[str, datetime | None] = {}
        for number, message in self._messages.values():
            if number not in open_until:
                open_until[number] = message.stored_at
            elif (until := open_until[number]) is not None and _was_on_its_way(message, until):
                open_until[number] = None if message.stored_at is None else min(until, message.stored_at)
            else:
                open_until[number] = None
                continue
            found.append(message)
            if len(found) == most:
                break
        return found


def _was_on_its_way(message: Waiting, moment: datetime) -> bool:
    return moment - _LONGEST_REQUEST < message.created_at < moment
