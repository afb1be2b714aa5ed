"""The stage ``quota``: one message of the client's day, given back when nothing was published."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Claim, Client, Message, Reservation
from pipeline.failures import Refused
from pipeline.ids import random_token
from pipeline.ports import ClaimLost, Clock, QuotaExceeded, Quotas, StoreUnavailable, Telemetry
from pipeline.stage import Stage
from pipeline.store_policy import StorePolicy


class Quota(Stage):
    """Adds the reservation, in one step with arming the claim where there is one."""

    needs = frozenset({Client, Message})
    provides = frozenset({Reservation})
    follows: ClassVar[Mapping[type, str]] = {Claim: "otherwise a replay would spend quota"}

    def __init__(
        self,
        app: ASGIApp,
        quotas: Quotas,
        clock: Clock,
        telemetry: Telemetry,
        on_store_error: str = "reject",
    ) -> None:
        super().__init__(app)
        self.quotas = quotas
        self.clock = clock
        self.policy = StorePolicy("quota", on_store_error, telemetry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        back_here = context.stopwatch.back_here()
        client, claim = context[Client], context.get(Claim)
        # What is taken under a claim is the claim's: its own token says so.
        token = random_token() if claim is None else claim.token
        now = self.clock.now()
        day = now.date()
        may_be_taken = True
        try:
            taken = await self.quotas.take(client, day, token, claim)
        except ClaimLost:
            raise Refused(codes.IDEMPOTENCY_IN_PROGRESS, retry_after=1) from None
        except asyncio.CancelledError:
            await self._give_back(context, Reservation(client.name, day, client.daily_quota, 0, token))
            raise
        except StoreUnavailable as error:
            reservation = Reservation(client.name, day, client.daily_quota, 0, token)
            may_be_taken = error.may_be_done
            if may_be_taken and self.policy.rejects:
                await self._give_back(context, reservation)
            self.policy.judge(context, "take", error)
        else:
            if isinstance(taken, QuotaExceeded):
                _tell(context, client.daily_quota, 0, now)
                raise Refused(codes.TOO_MANY_REQUESTS, retry_after=_seconds_to_reset(now))
            reservation = taken
            context.add(taken)
            _tell(context, taken.limit, taken.remaining, now)
        try:
            await self.app(scope, receive, send)
        finally:
            if may_be_taken and not context.may_be_published:
                back_here()
                await self._give_back(context, reservation)
                if reservation.used:
                    _tell(context, reservation.limit, reservation.remaining + 1, now)

    async def _give_back(self, context: Context, reservation: Reservation) -> None:
        """Give back what was taken without a claim; what was taken under one goes back when the claim is settled."""
        if context.get(Claim) is not None:
            return
        try:
            await self.quotas.give_back(reservation)
        except StoreUnavailable as error:
            self.policy.note(context, "give_back", error)


def _tell(context: Context, limit: int | None, remaining: int, now: datetime) -> None:
    """RateLimit fields (draft-ietf-httpapi-ratelimit-headers-09); none where there is no limit."""
    if limit is None:
        return
    context.headers[b"ratelimit-policy"] = b'"daily";q=%d;w=86400' % limit
    context.headers[b"ratelimit"] = b'"daily";r=%d;t=%d' % (remaining, _seconds_to_reset(now))


def _seconds_to_reset(now: datetime) -> int:
    # Rounded up: who waits this long finds a new day.
    return 86400 - (now.hour * 3600 + now.minute * 60 + now.second)
