"""What uvicorn is given for its HTTP protocol: what makes one for each connection of a server."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.http.limits import CONNECTION_REFUSED, Shared
from gateway.http.protocol import BoundedHttpProtocol


class ProtocolFactory:
    """Makes the protocol of each connection of one server. Has nothing before the first: each worker gets a copy."""

    def __init__(self) -> None:
        self._shared: Shared | None = None

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> BoundedHttpProtocol:
        """The protocol of one connection; called inside the server's event loop."""
        if self._shared is None:
            on_refused = app_state.get(CONNECTION_REFUSED, lambda: None)
            self._shared = Shared(_loop or asyncio.get_running_loop(), config.timeout_keep_alive, on_refused)
        return BoundedHttpProtocol(config, server_state, app_state, self._shared)
