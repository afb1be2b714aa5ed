"""Claims and quotas in the file, behind the ports ``Claims`` and ``Quotas``."""

from __future__ import annotations

import time
from datetime import date
from functools import partial
from typing import TypeVar

from gateway.dependency import CallWatcher, ConnectionWatcher
from gateway.embedded import claims, quotas
from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError, NotDone
from gateway.embedded.jobs import Operation
from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import (
    Begun,
    ClaimLost,
    InProgress,
    OtherPayload,
    QuotaExceeded,
    Replay,
    StoreUnavailable,
)

T = TypeVar("T")


class EmbeddedStore:
    """The store on ``database``; several objects, in several processes, may share its file.

    Every step is one transaction, with this machine's clock read inside it, and takes at most ``call_seconds``.
    Claims are held for ``lease_seconds``; answers are kept for ``idempotency_ttl_seconds``, and so are claims that
    nobody settles; but of refusals only ``max_refusal_bytes`` for each client in each period of so many seconds.
    ``on_connection`` is told when the file becomes usable and when it ceases to be.
    """

    name = "store"

    def __init__(
        self,
        database: Database,
        *,
        idempotency_ttl_seconds: int = 86400,
        lease_seconds: float = 15.0,
        max_refusal_bytes: int = 1_048_576,
        call_seconds: float = 0.25,
        on_connection: ConnectionWatcher | None = None,
        on_call: CallWatcher = lambda operation, seconds, has_failed: None,
    ) -> None:
        self.database = database
        self._ttl_ms = idempotency_ttl_seconds * 1000
        self._lease_ms = round(lease_seconds * 1000)
        self._max_refusal_bytes = max_refusal_bytes
        self._call_seconds = call_seconds
        self._on_call = on_call
        if on_connection is not None:
            database.watch(on_connection)

    async def start(self) -> None:
        """Open the file, now or as soon as it can be."""
        await self.database.start()

    async def close(self) -> None:
        """Finish what was accepted."""
        await self.database.close()

    async def ping(self) -> None:
        """Return when the file has just been written to; raises ``DatabaseError`` with the reason otherwise."""
        await self.database.ping()

    async def begin(self, claim: Claim) -> Begun | Replay | InProgress | OtherPayload:
        """See ``Claims.begin``."""
        step = partial(claims.begin, claim=claim, ttl_ms=self._ttl_ms, lease_ms=self._lease_ms)
        found = await self._do("begin", step)
        if isinstance(found, claims.Answered):
            return Replay(Answer.unpack(found.packed, claim.tracking_id))
        return found

    async def arm(self, claim: Claim) -> None:
        """See ``Claims.arm``."""
        _hold(await self._do("arm", partial(claims.arm, claim=claim)))
        claim.armed = True

    async def complete(self, claim: Claim, answer: Answer) -> None:
        """See ``Claims.complete``."""
        packed = answer.pack(claim.tracking_id)
        most = None if answer.status == 202 else self._max_refusal_bytes
        step = partial(
            claims.complete, claim=claim, packed=packed, ttl_ms=self._ttl_ms, max_refusal_bytes=most
        )
        # The answer stands whether or not this is in time: done late, it still spares a retry the wait for the lease.
        _hold(await self._do("complete", step, withdraw=False))

    async def release(self, claim: Claim) -> None:
        """See ``Claims.release``."""
        _hold(await self._do("release", partial(claims.release, claim=claim)))

    async def suspend(self, claim: Claim) -> None:
        """See ``Claims.suspend``."""
        _hold(await self._do("suspend", partial(claims.suspend, claim=claim)))

    async def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Reservation | QuotaExceeded:
        """See ``Quotas.take``."""
        if claim is None:
            return await self._do("take", partial(quotas.take, client=client, day=day, token=token))
        taken = await self._do("take", partial(claims.take, claim=claim, client=client, day=day, token=token))
        if taken is None:
            raise ClaimLost
        if isinstance(taken, Reservation):
            claim.armed = True
        return taken

    async def give_back(self, reservation: Reservation) -> None:
        """See ``Quotas.give_back``."""
        day, token = reservation.day, reservation.token
        await self._do(
            "give_back", partial(quotas.give_back, client=reservation.client, day=day, token=token)
        )

    async def _do(self, operation: str, step: Operation[T], *, withdraw: bool = True) -> T:
        has_failed = False
        began = time.perf_counter()
        try:
            return await self.database.run(step, self._call_seconds, withdraw=withdraw)
        except DatabaseError as error:
            has_failed = True
            raise StoreUnavailable(str(error), may_be_done=not isinstance(error, NotDone)) from error
        finally:
            self._on_call(operation, time.perf_counter() - began, has_failed)


def _hold(held: bool) -> None:
    if not held:
        raise ClaimLost
