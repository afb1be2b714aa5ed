"""The stage ``provider_gate``: from the names that the caller wrote to the providers that are usable."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Claim, Message, Route
from pipeline.failures import Refused
from pipeline.ports import Downstream, GateSwitch
from pipeline.providers import Provider, Providers
from pipeline.stage import Stage

_SMART = Route()


class ProviderGate(Stage):
    """Adds the route: canonical names, unusable ones removed, order kept.

    None asked for leaves the route empty: the delivery side selects. With the switch off names are resolved, and
    the state of the providers is not looked at. Where the claim comes only later, a refusal waits for it: what an
    earlier request under the key may have put on the queue cannot be refused any more.
    """

    needs = frozenset({Message})
    provides = frozenset({Route})

    def __init__(
        self, app: ASGIApp, providers: Providers, switch: GateSwitch, downstream: Downstream
    ) -> None:
        super().__init__(app)
        self.providers = providers
        self.enabled = switch.is_on
        self.defers = Claim in downstream.facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        names = context[Message].providers or ()
        if context.may_be_published:
            route = self.providers.known(names)
        else:
            try:
                route = self._usable(names)
            except Refused as refusal:
                if not self.defers:
                    raise
                context.defer(refusal)
                route = self.providers.known(names)
        context.add(Route(tuple(provider.name for provider in route)) if route else _SMART)
        await self.app(scope, receive, send)

    def _usable(self, names: Sequence[str]) -> tuple[Provider, ...]:
        """The providers of these names that messages may be routed to; raises ``Refused`` where there is none."""
        asked_for = self.providers.resolve(names)
        if not self.enabled:
            return asked_for
        if not asked_for:
            if not self.providers.any_usable:
                raise Refused(codes.NO_PROVIDER_AVAILABLE, retry_after=30)
            return ()
        usable = tuple(provider for provider in asked_for if provider.is_usable)
        if not usable:
            code = codes.PROVIDER_DISABLED if len(asked_for) == 1 else codes.ALL_PROVIDERS_DISABLED
            raise Refused(code, details={"providers": [provider.name for provider in asked_for]})
        return usable
