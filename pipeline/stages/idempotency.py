"""The stage ``idempotency``: one answer for all requests of one client with one Idempotency-Key and payload."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.answer import Answer, Reply, accepted
from pipeline.context import Context
from pipeline.facts import Claim, Client
from pipeline.failures import OutcomeUnknown, Refused
from pipeline.ports import (
    Begun,
    ClaimLost,
    Claims,
    Clock,
    InProgress,
    OtherPayload,
    Replay,
    StoreUnavailable,
    Telemetry,
)
from pipeline.stage import Stage
from pipeline.store_policy import StorePolicy

_BARE = re.compile(rb'(?!")[!-~]{1,255}')
_QUOTED = re.compile(rb'"((?:[!#-\[\]-~]|\\["\\])+)"')
_ESCAPED = re.compile(rb"\\(.)")


class Idempotency(Stage):
    """Adds the claim on the key; without a key there is none and nothing is done."""

    needs = frozenset({Client})
    provides = frozenset({Claim})

    def __init__(
        self,
        app: ASGIApp,
        claims: Claims,
        clock: Clock,
        telemetry: Telemetry,
        on_store_error: str = "reject",
    ) -> None:
        super().__init__(app)
        self.claims = claims
        self.clock = clock
        self.telemetry = telemetry
        self.policy = StorePolicy("idempotency", on_store_error, telemetry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        header = context.header(b"idempotency-key")
        if header is None:
            context.raise_deferred()
            await self.app(scope, receive, send)
            return
        key = parse_key(header)
        payload = await context.payload(receive)
        claim = Claim.on(context[Client], key, context.fingerprint(payload))
        context.tracking_id = claim.tracking_id
        try:
            found = await self.claims.begin(claim)
        except StoreUnavailable as error:
            # It may have begun all the same, and a retry should not have to wait for the lease to end. Not "release":
            # it may even have resumed a claim whose message is on the queue.
            if error.may_be_done and self.policy.rejects:
                await self._suspend_if_begun(context, claim)
            self.policy.judge(context, "begin", error)
            context.raise_deferred()
            await self.app(scope, receive, send)
            return
        match found:
            case Begun(armed):
                claim.armed = context.may_be_published = armed
                context.add(claim)
                await self._serve(context, claim, scope, receive, send)
            case Replay(answer):
                self.telemetry.replayed()
                context.headers[b"idempotent-replayed"] = b"true"
                await answer.send(send)
            case InProgress(milliseconds_left):
                raise Refused(codes.IDEMPOTENCY_IN_PROGRESS, retry_after=-(-milliseconds_left // 1000))
            case OtherPayload(first):
                raise Refused(codes.IDEMPOTENCY_KEY_REUSED, details={"first": first})

    async def _serve(
        self, context: Context, claim: Claim, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Await the inner answer, settle the claim by it, and only then let it leave."""
        back_here = context.stopwatch.back_here()
        reply = Reply(back_here)
        try:
            context.raise_deferred()
            await self.app(scope, receive, reply)
            answer = reply.whole()
            if answer.status != 202 and context.may_be_published:
                # An operator's stage has answered instead of raising, and cannot know what is on the queue.
                raise OutcomeUnknown
        except BaseException as failure:
            back_here()
            await self._settle_failure(context, claim, failure)
            raise
        if answer.status == 202:
            await self._settle(context, "complete", claim, answer)
        else:
            await self._settle(context, "release", claim)
        await answer.send(send)

    async def _settle_failure(self, context: Context, claim: Claim, failure: BaseException) -> None:
        if context.is_published:
            await self._settle(context, "complete", claim, accepted(context.tracking_id))
        elif context.may_be_published:
            await self._settle(context, "suspend", claim)
        elif (verdict := self._verdict(context, failure)) is not None:
            await self._settle(context, "complete", claim, verdict)
        else:
            await self._settle(context, "release", claim)

    def _verdict(self, context: Context, failure: BaseException) -> Answer | None:
        """What is kept of a refusal that is an answer to this payload; None for any other failure."""
        if not (isinstance(failure, Refused) and failure.code.is_verdict):
            return None
        try:
            return failure.answer(context.tracking_id, self.clock.now())
        except (TypeError, ValueError):
            # An operator's stage gave what JSON does not have: the boundary will call it a bug.
            return None

    async def _suspend_if_begun(self, context: Context, claim: Claim) -> None:
        try:
            await self.claims.suspend(claim)
        except ClaimLost:
            pass  # It has not begun, and there is nothing to tell.
        except StoreUnavailable as error:
            self.policy.note(context, "suspend", error)

    async def _settle(self, context: Context, step: str, claim: Claim, *answer: Answer) -> None:
        """Take the claim's last step. Where it fails the answer stands: the record's lease or age ends it."""
        try:
            await getattr(self.claims, step)(claim, *answer)
        except (StoreUnavailable, ClaimLost) as error:
            self.policy.note(context, step, error)


def parse_key(header: bytes) -> str:
    """The key in the header's value: bare, or a quoted string as in RFC 8941; both forms mean the same key.

    Raises ``Refused`` unless it is 1 to 255 visible ASCII characters.
    """
    if _BARE.fullmatch(header):
        return header.decode("ascii")
    quoted = _QUOTED.fullmatch(header)
    if quoted is None:
        raise Refused(codes.INVALID_IDEMPOTENCY_KEY)
    key = _ESCAPED.sub(rb"\1", quoted[1])
    if len(key) > 255:
        raise Refused(codes.INVALID_IDEMPOTENCY_KEY)
    return key.decode("ascii")
