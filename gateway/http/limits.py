"""The bounds on connections: how many there are, how long they idle, how far each may send ahead of its answers."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable, Sized
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.http.transport import WriteBatch
from pipeline.timing.timeouts import Timeouts

OWN_FILES = 128
"""How many of the files that this process may have open are kept from connections: for its log, store and broker."""

MOST_WAITING = 256
"""How many requests of one connection may be unanswered."""

MANY_WAITING = 16
"""From so many unanswered ones on nothing more is read from it, until there are fewer."""


CONNECTION_REFUSED = "sms.connection_refused"
"""Under this name the state of the application's lifespan holds what is called for each connection that is refused."""


class Connection(Protocol):
    """What may idle between two requests. Hashed by its identity."""

    def timeout_keep_alive_handler(self) -> None:
        """It has idled for too long."""


class Shared:
    """What all connections of one server have in common: how many may be open, their time to idle, their writes.

    ``on_refused`` is called for each connection beyond the bound.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keep_alive_seconds: float,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_refused = on_refused
        self.idle: Timeouts[Connection] = Timeouts(
            keep_alive_seconds, lambda connection: connection.timeout_keep_alive_handler()
        )
        self.batch = WriteBatch(loop)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most_connections = sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - OWN_FILES)


class Flow(FlowControl):
    """uvicorn's, which would read on with every answer, however many requests still wait in ``unanswered``."""

    def __init__(self, transport: asyncio.Transport, unanswered: Sized) -> None:
        super().__init__(transport)
        self._unanswered = unanswered

    def resume_reading(self) -> None:
        """Read on, if few wait."""
        if len(self._unanswered) < MANY_WAITING:
            super().resume_reading()
