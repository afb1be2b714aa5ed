"""The stage ``idempotency``: one answer for all requests of one client with one Idempotency-Key and payload."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import codes
from pipeline.answer import JSON, Answer, accepted
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
            await self.app(scope, receive, send)
            return
        match found:
            case Begun(armed):
                claim.armed = context.may_be_published = armed
                context.add(claim)
                await self._hold(context, claim, scope, receive, send)
            case Replay(answer):
                self.telemetry.replayed()
                context.headers[b"idempotent-replayed"] = b"true"
                await answer.send(send)
            case InProgress(milliseconds_left):
                raise Refused(codes.IDEMPOTENCY_IN_PROGRESS, retry_after=-(-milliseconds_left // 1000))
            case OtherPayload():
                raise Refused(codes.IDEMPOTENCY_KEY_REUSED)

    async def _hold(self, context: Context, claim: Claim, scope: Scope, receive: Receive, send: Send) -> None:
        """Await the inner answer, settle the claim by it, and only then let it leave."""
        held = _Held()
        try:
            await self.app(scope, receive, held)
            answer = held.answer()
            if answer.status != 202 and context.may_be_published:
                # An operator's stage has answered instead of raising, and cannot know what is on the queue.
                raise OutcomeUnknown
        except BaseException as failure:
            await self._settle_failure(context, claim, failure)
            raise
        if answer.status == 202:
            await self._settle(context, "complete", claim, answer)
        else:
            await self._settle(context, "release", claim)
        for message in held.messages:
            await send(message)

    async def _settle_failure(self, context: Context, claim: Claim, failure: BaseException) -> None:
        if context.is_published:
            await self._settle(context, "complete", claim, accepted(context.tracking_id))
        elif context.may_be_published:
            await self._settle(context, "suspend", claim)
        elif isinstance(failure, Refused) and failure.code.is_verdict:
            await self._settle(
                context, "complete", claim, failure.answer(context.tracking_id, self.clock.now())
            )
        else:
            await self._settle(context, "release", claim)

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


class _Held:
    """An ASGI ``send`` that keeps the answer."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    def answer(self) -> Answer:
        start, parts = self.messages[0], self.messages[1:]
        body = b"".join([part.get("body", b"") for part in parts])
        return Answer(start["status"], body, dict(start.get("headers", ())).get(b"content-type", JSON))


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
