"""Where every call of a gateway to its store and its broker waits until the test says what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Any, Protocol, TypeVar

from gateway.dependency import Store
from pipeline.answer import Answer
from pipeline.envelope import Envelope
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, InProgress, OtherPayload, QuotaExceeded, Replay

T = TypeVar("T")


class Happens(Enum):
    """Whether a call whose caller gets no good reply is carried out by the other side."""

    NEVER = "never"
    SURELY_NEVER = "never, and a store's caller is told so"
    NOW = "now"
    LATER = "later"

    def __repr__(self) -> str:
        return self.name


class Killed(BaseException):
    """The process is gone: whatever its code would still do reaches nobody."""


class Caller(Protocol):
    """Who calls: a request, or a process on its own account."""

    @property
    def is_dead(self) -> bool:
        """Whether its process was killed."""

    @property
    def tracking_id(self) -> str:
        """What the request is about."""


@dataclass(eq=False)
class Call:
    """One call that waits. ``act`` carries it out; ``claim`` is a copy as the other side would have it.

    ``undoes`` says that it returns what was charged.
    """

    caller: Caller
    name: str
    client: str
    tracking_id: str
    claim: Claim | None
    act: Callable[[], Awaitable[Any]]
    task: asyncio.Task[Any]
    reply: asyncio.Future[Any]
    undoes: bool

    def __repr__(self) -> str:
        return f"{self.name} of {self.caller!r}"


class Gate:
    """Holds the calls of all processes, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: list[Call] = []
        self.callers: dict[asyncio.Task[Any], Caller] = {}

    async def ask(
        self,
        process: Caller,
        name: str,
        client: str,
        tracking_id: str | None,
        claim: Claim | None,
        act: Callable[[], Awaitable[Any]],
        *,
        undoes: bool = False,
    ) -> Any:
        """The reply, as soon as the test gives one."""
        task = asyncio.current_task()
        assert task is not None
        caller = self.callers.get(task, process)
        if caller.is_dead:
            raise Killed
        reply = asyncio.get_running_loop().create_future()
        call = Call(caller, name, client, tracking_id or caller.tracking_id, claim, act, task, reply, undoes)
        self.waiting.append(call)
        return await reply


class GatedStore:
    """The store behind the gate. It is given copies of claims: a reply that is lost leaves no trace on ours."""

    def __init__(self, store: Store, gate: Gate, process: Caller) -> None:
        self.store = store
        self.gate = gate
        self.process = process
        self._taken_for: dict[str, str] = {}

    async def begin(self, claim: Claim) -> Begun | Replay | InProgress | OtherPayload:
        return await self._ask("begin", claim, self.store.begin)

    async def arm(self, claim: Claim) -> None:
        await self._ask("arm", claim, self.store.arm)

    async def complete(self, claim: Claim, answer: Answer) -> None:
        refuses = answer.status != 202
        await self._ask("complete", claim, lambda copy: self.store.complete(copy, answer), undoes=refuses)

    async def release(self, claim: Claim) -> None:
        await self._ask("release", claim, self.store.release, undoes=True)

    async def suspend(self, claim: Claim) -> None:
        await self._ask("suspend", claim, self.store.suspend)

    async def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Reservation | QuotaExceeded:
        taken: Reservation | QuotaExceeded
        if claim is None:
            caller = self.gate.callers[_current_task()]
            self._taken_for[token] = caller.tracking_id
            taken = await self.gate.ask(
                self.process,
                "take",
                client.name,
                caller.tracking_id,
                None,
                lambda: self.store.take(client, day, token, None),
            )
            return taken
        return await self._ask("take", claim, lambda copy: self.store.take(client, day, token, copy))

    async def give_back(self, reservation: Reservation) -> None:
        await self.gate.ask(
            self.process,
            "give_back",
            reservation.client,
            self._taken_for[reservation.token],
            None,
            lambda: self.store.give_back(reservation),
            undoes=True,
        )

    async def _ask(
        self, name: str, claim: Claim, step: Callable[[Claim], Awaitable[T]], *, undoes: bool = False
    ) -> T:
        copy = replace(claim)
        reply: T = await self.gate.ask(
            self.process, name, claim.client, claim.tracking_id, copy, lambda: step(copy), undoes=undoes
        )
        claim.armed = copy.armed
        return reply


class GatedOutbox:
    """The outbox: what is carried out of its calls is ``stored``."""

    def __init__(self, stored: list[Envelope], gate: Gate, process: Caller) -> None:
        self.stored = stored
        self.gate = gate
        self.process = process

    async def publish(self, envelope: Envelope) -> None:
        async def store() -> None:
            self.stored.append(envelope)

        await self.gate.ask(self.process, "publish", envelope.client, envelope.tracking_id, None, store)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
