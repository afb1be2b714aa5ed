"""The bounds on connections: how many there are, and how far each may send ahead of its answers."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Sized
from typing import NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from gateway.http.keepalive import Idling
from gateway.http.transport import Turn

OWN_FILES = 128
"""How many of the files that this process may have open are kept from connections: for its log, store and broker."""

MOST_WAITING = 256
"""How many requests of one connection may be unanswered."""

MANY_WAITING = 16
"""From so many unanswered ones on nothing more is read from it, until there are fewer."""


class Shared(NamedTuple):
    """What all connections of a server have in common."""

    idling: Idling
    turn: Turn
    most_connections: int


_OF_SERVER: WeakKeyDictionary[ServerState, Shared] = WeakKeyDictionary()


def shared(server: ServerState, loop: asyncio.AbstractEventLoop, idle_seconds: float) -> Shared:
    """What the connections of ``server``, which runs in ``loop``, share; made with the first of them."""
    found = _OF_SERVER.get(server)
    if found is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - OWN_FILES)
        found = _OF_SERVER[server] = Shared(Idling(idle_seconds), Turn(loop), most)
    return found


class Flow(FlowControl):
    """uvicorn's, which would read on with every answer, however many requests still wait in ``unanswered``."""

    def __init__(self, transport: asyncio.Transport, unanswered: Sized) -> None:
        super().__init__(transport)
        self._unanswered = unanswered

    def resume_reading(self) -> None:
        """Read on, if few wait."""
        if len(self._unanswered) < MANY_WAITING:
            super().resume_reading()
