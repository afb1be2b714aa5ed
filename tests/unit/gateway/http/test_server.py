"""What makes a protocol for each connection of a server."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.http.protocol import BoundedHttpProtocol
from gateway.http.server import ProtocolFactory


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Is never called."""


def made(factory: ProtocolFactory, loop: asyncio.AbstractEventLoop | None = None) -> BoundedHttpProtocol:
    config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, timeout_keep_alive=7)
    return factory(config, ServerState(), {}, loop)


async def test_the_connections_of_one_server_share() -> None:
    """Their writes, their time to idle, which is uvicorn's setting, and their bound. Those of another do not."""
    factory = ProtocolFactory()
    first, second = made(factory), made(factory)
    assert first is not second
    assert first._shared is second._shared
    assert first._shared.idle.seconds == 7
    assert made(ProtocolFactory())._shared is not first._shared


async def test_the_loop_is_the_servers() -> None:
    """The one that is given, or the one that runs."""
    loop = asyncio.get_running_loop()
    assert made(ProtocolFactory()).loop is loop
    other = asyncio.new_event_loop()
    try:
        found = made(ProtocolFactory(), other)
        assert found.loop is found._shared.batch.loop is other
    finally:
        other.close()


def test_a_worker_gets_a_copy() -> None:
    """Each one that uvicorn starts is sent it."""
    assert pickle.dumps(ProtocolFactory())
