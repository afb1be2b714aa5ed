"""The stage ``anonymous``: every request is one configured client's, without a key."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.context import Context
from pipeline.facts import Client
from pipeline.ports import Clients, Exposure
from pipeline.stage import Stage


class Anonymous(Stage):
    """Adds the one client.

    Raises ``ValueError`` for a client that is not configured, and where the gateway listens beyond this machine
    without ``allow_public``: there, anybody could send at this client's expense.
    """

    provides = frozenset({Client})

    def __init__(
        self, app: ASGIApp, clients: Clients, exposure: Exposure, client: str, allow_public: bool = False
    ) -> None:
        super().__init__(app)
        found = clients.named(client)
        if found is None:
            # What stands there is not repeated: an API key does where the two were mixed up.
            raise ValueError("client must be the name of an active configured client")
        if not exposure.is_loopback and allow_public is not True:
            raise ValueError(
                "lets anybody who reaches SERVER_A_HOST send without a key: "
                "set SERVER_A_HOST=127.0.0.1, or allow_public = true if that is meant"
            )
        self.client = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        Context.of(scope).add(self.client)
        await self.app(scope, receive, send)
