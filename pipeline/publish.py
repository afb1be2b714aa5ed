"""The terminal handler: the envelope goes to the outbox, and a 202 leaves only when it is stored there."""

from __future__ import annotations

import time

from starlette.types import Receive, Scope, Send

from pipeline import codes
from pipeline.answer import accepted
from pipeline.context import Context
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Claim, Client, Message, Route
from pipeline.failures import OutcomeUnknown, Refused
from pipeline.ports import (
    BrokerRefused,
    ClaimLost,
    Claims,
    Clock,
    Outbox,
    Outcome,
    StoreUnavailable,
    Telemetry,
)
from pipeline.providers import Providers
from pipeline.store_policy import StorePolicy


class Publish:
    """The innermost app of a send. Keeps the three outcomes apart: accepted, refused, unknown."""

    needs = frozenset({Client, Message})

    def __init__(
        self,
        outbox: Outbox,
        claims: Claims,
        providers: Providers,
        config_fingerprint: ConfigFingerprint,
        clock: Clock,
        telemetry: Telemetry,
        claim_policy: StorePolicy,
    ) -> None:
        self.outbox = outbox
        self.claims = claims
        self.providers = providers
        self.config_fingerprint = config_fingerprint
        self.clock = clock
        self.telemetry = telemetry
        self.claim_policy = claim_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        # Where a claim was to come, and an operator's own stage has brought none.
        context.raise_deferred()
        envelope = Envelope(
            tracking_id=context.tracking_id,
            client=context[Client].name,
            message=context[Message],
            route=context.get(Route) or self._resolve(context[Message], in_doubt=context.may_be_published),
            config_fingerprint=self.config_fingerprint,
            created_at=self.clock.now(),
        )
        claim = context.get(Claim)
        if claim is not None and not claim.armed:
            await self._arm(context, claim)
        was_in_doubt, context.may_be_published = context.may_be_published, True
        outcome: Outcome = "unknown"
        began = time.perf_counter()
        try:
            await self.outbox.publish(envelope)
            outcome = "confirmed"
        except BrokerRefused as error:
            outcome = "refused"
            # This request has put nothing on the queue; an earlier one under its key may have.
            context.may_be_published = was_in_doubt
            raise Refused(codes.SERVICE_UNAVAILABLE, retry_after=1) from error
        except BaseException as error:
            # Whatever else went wrong after the publish began, a bug or a cancellation: the broker may have it.
            raise OutcomeUnknown from error
        finally:
            self.telemetry.published(outcome, time.perf_counter() - began)
        # From here on it is accepted, whatever else may fail on the way out.
        context.is_published = True
        await accepted(context.tracking_id).send(send)

    def _resolve(self, message: Message, *, in_doubt: bool) -> Route:
        """Without a gate names are still resolved, and unknown ones refused, as long as the message can be."""
        resolve = self.providers.known if in_doubt else self.providers.resolve
        return Route(tuple(provider.name for provider in resolve(message.providers or ())))

    async def _arm(self, context: Context, claim: Claim) -> None:
        """Without a quota stage nobody has armed the claim yet."""
        try:
            await self.claims.arm(claim)
        except ClaimLost:
            raise Refused(codes.IDEMPOTENCY_IN_PROGRESS, retry_after=1) from None
        except StoreUnavailable as error:
            self.claim_policy.judge(context, "arm", error)
