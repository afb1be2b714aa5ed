"""The stage ``provider_gate``: from the names that the caller wrote to the providers that are usable."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Message, Route
from pipeline.failures import Refused
from pipeline.ports import GateSwitch
from pipeline.providers import Provider, Providers
from pipeline.stage import Stage

_SMART = Route()


class ProviderGate(Stage):
    """Adds the route: canonical names, unusable ones removed, order kept.

    None asked for leaves the route empty: the delivery side selects. With the switch off names are resolved, and
    the state of the providers is not looked at.
    """

    needs = frozenset({Message})
    provides = frozenset({Route})

    def __init__(self, app: ASGIApp, providers: Providers, switch: GateSwitch) -> None:
        super().__init__(app)
        self.providers = providers
        self.enabled = switch.is_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        asked_for = self.providers.resolve(context[Message].providers or ())
        # What an earlier request under this key may have put on the queue cannot be refused any more.
        judged = self.enabled and not context.may_be_published
        route = self._usable(asked_for) if judged else asked_for
        context.add(Route(tuple(provider.name for provider in route)) if route else _SMART)
        await self.app(scope, receive, send)

    def _usable(self, asked_for: tuple[Provider, ...]) -> tuple[Provider, ...]:
        if not asked_for:
            if not self.providers.any_usable:
                raise Refused(codes.NO_PROVIDER_AVAILABLE, retry_after=30)
            return ()
        usable = tuple(provider for provider in asked_for if provider.is_usable)
        if not usable:
            code = codes.PROVIDER_DISABLED if len(asked_for) == 1 else codes.ALL_PROVIDERS_DISABLED
            raise Refused(code, details={"providers": [provider.name for provider in asked_for]})
        return usable
