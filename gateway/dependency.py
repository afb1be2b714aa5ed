"""What the gateway depends on outside of its process, and what each adapter of it can do for start, health and end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pipeline.ports import Claims, Quotas

ConnectionWatcher = Callable[[bool], None]
"""Told True when a connection is up and usable, False when it is lost or blocked."""


CallWatcher = Callable[[str, float, bool], None]
"""Told of each call of the store: its operation, how many seconds it took, and whether it failed."""

OPERATIONS = ("begin", "arm", "complete", "release", "suspend", "take", "give_back")
"""The calls of a store, as ``pipeline.ports`` names them."""

GIVEN_UP = ("expired", "full")
"""Why a last step on the store is tried no more: its time is over, or too many wait already."""

Result = TypeVar("Result")

Step = Coroutine[Any, Any, Result]
"""What a method of a port gives; whoever only passes a step on needs no coroutine of their own around it."""


class Store(Claims, Quotas, Protocol):
    """Claims and quotas lie together: taking quota and arming a claim is one step."""


class Degraded(Exception):
    """It serves, but not as it should; the text says why, and holds no secret."""

    state = "degraded"


class Full(Degraded):
    """It answers, and takes nothing more for the time being."""

    state = "full"


class Dependency(Protocol):
    """A store, a broker or a spool. ``name`` is what health reports call it: ``store``, ``broker`` or ``spool``."""

    name: str

    async def start(self) -> None:
        """Begin to connect, and return soon whether or not the other side is there; from then on reconnect for ever."""

    async def ping(self) -> None:
        """Return when the other side has just answered a round trip; raise with a reason for people otherwise.

        The reason holds no secret. ``Degraded`` when it serves all the same. The caller bounds the time.
        """

    async def close(self) -> None:
        """End connections and tasks. What is in flight has been awaited before."""


class HeartbeatBus(Protocol):
    """Carries the heartbeats of every gateway to every gateway."""

    async def send(self, heartbeat: bytes) -> None:
        """Hand over one heartbeat, a JSON text. Raises ``BrokerRefused`` or ``BrokerUnknown``."""

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """Call ``receive`` with each heartbeat that arrives, our own included. Called once, before ``start``."""
