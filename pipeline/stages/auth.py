"""The stage ``auth``: who sends, by the header API-Key."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline.context import Context
from pipeline.facts import Client
from pipeline.failures import Refused
from pipeline.ports import Clients
from pipeline.stage import Stage

_CHALLENGE = ((b"www-authenticate", b'API-Key realm="sms"'),)


class Auth(Stage):
    """Adds the client. An absent key, an unknown one and an inactive client's are refused alike."""

    provides = frozenset({Client})

    def __init__(self, app: ASGIApp, clients: Clients) -> None:
        super().__init__(app)
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        api_key = context.header(b"api-key")
        client = None
        if api_key:
            context.api_key_hint = hint(api_key)
            client = self.clients.authenticate(api_key)
        if client is None:
            raise Refused(codes.UNAUTHORIZED, headers=_CHALLENGE)
        context.add(client)
        await self.app(scope, receive, send)


def hint(api_key: bytes) -> str:
    """What logs may show of a key: its first four characters, and of a short key nothing."""
    start = api_key[:4].decode("ascii", "replace") if len(api_key) >= 8 else ""
    return start + "…"
