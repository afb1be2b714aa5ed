"""Connections that idle between two requests are closed after a while; one timer does for all of them."""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import Protocol

_EVERY_SECONDS = 1.0


class Connection(Protocol):
    """What may idle. Hashed by its identity."""

    def timeout_keep_alive_handler(self) -> None:
        """It has idled for too long."""


class Idling:
    """Tells connections when they have idled for ``seconds``, at most a second late. Belongs to one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """It idles from now on."""
        self._due[connection] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)

    def discard(self, connection: Connection) -> None:
        """It idles no more, or never did."""
        self._due.pop(connection, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        # All idle equally long, so who began first is due first.
        over = [connection for connection, _ in takewhile(lambda one: one[1] <= now, self._due.items())]
        for connection in over:
            del self._due[connection]
        if self._due:
            first = next(iter(self._due.values()))
            self._timer = loop.call_at(max(first, now + _EVERY_SECONDS), self._look, loop)
        for connection in over:
            connection.timeout_keep_alive_handler()
