"""The stage ``anonymous``: every request is one configured client's, without a key."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.context import Context
from pipeline.facts import Client
from pipeline.stage import Stage


class Anonymous(Stage):
    """Adds the one client. Whether it may face the network is settled before it is built."""

    provides = frozenset({Client})

    def __init__(self, app: ASGIApp, client: Client) -> None:
        super().__init__(app)
        self.client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        Context.of(scope).add(self.client)
        await self.app(scope, receive, send)
