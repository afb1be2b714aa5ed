"""Which numbers have messages waiting in the spool, read from its file bit by bit."""

from __future__ import annotations

import sqlite3

from gateway.embedded.outbox import recipient

# Some milliseconds of reading, for one who looks after others have written much.
_MOST_READ_AT_ONCE = 500
_FEW = 1000


class WaitingNumbers:
    """Remembers for each number the last position of a message to it; every row of the file is read once.

    A position that is not waited for any more is known by the first one that is: so a number may be taken for waiting a
    little longer than it is, and never for less long.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._read_up_to = 0

    def __len__(self) -> int:
        return len(self._last)

    def look_for(self, number: str, cursor: sqlite3.Cursor) -> tuple[int, bool]:
        """How many messages wait in the file of ``cursor``, and whether one of them is to ``number``.

        True, too, while that is not known yet.
        """
        first, last = cursor.execute(
            "SELECT (SELECT min(position) FROM messages), (SELECT max(position) FROM messages)"
        ).fetchone()
        if first is None:
            self._last.clear()
            return 0, False
        if last < self._read_up_to:
            # Positions have begun again, in a file that took the place of a lost one.
            self._last.clear()
            self._read_up_to = 0
        if last > self._read_up_to:
            self._read(cursor)
        if len(self._last) > _FEW + 2 * (last - first):
            self._last = {number: position for number, position in self._last.items() if position >= first}
        return last - first + 1, bool(self._read_up_to < last or self._last.get(number, 0) >= first)

    def _read(self, cursor: sqlite3.Cursor) -> None:
        rows = cursor.execute(
            "SELECT position, body FROM messages WHERE position > ? ORDER BY position LIMIT ?",
            (self._read_up_to, _MOST_READ_AT_ONCE),
        )
        for position, body in rows:
            self._last[recipient(body)] = self._read_up_to = position
