"""The gateways under load, as users start them, and the servers that they share with nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiormq
import httpx
import redis

from tests.bench.cases import PROVIDERS, Case, Setup
from tests.bench.wrk import Load, WrongAnswers
from tests.support.broker import channel_of, remove_topology
from tests.support.gateways import SEND, Backend, Gateway
from tests.support.servers import HOST, RabbitServer, RedisServer

_SETTLE_SECONDS = 10.0
# When nothing has come for so long, nothing is in flight any more.
_QUIET_SECONDS = 0.3
# So long is a held request given to get where it is to be held.
_HOLD_SECONDS = 0.3


class Contender:
    """A running gateway with its store and its queue."""

    def __init__(
        self, setup: Setup, backend: Backend, gateway: Gateway, store: RedisServer, broker: RabbitServer
    ) -> None:
        assert gateway.process is not None
        self.setup = setup
        self.backend = backend
        self.gateway = gateway
        self.store = store
        self.broker = broker
        self.url = gateway.url
        self.pid = gateway.process.pid

    def prepare(self, case: Case) -> None:
        """Forget everything, and send what has to be there before the case begins."""
        self.forget()
        if case.first is not None:
            answer = self._send(case.first)
            assert answer.status_code == 202, answer.text
        self.take_ids(0)

    def forget(self) -> None:
        """Empty the store, and the log on disk."""
        os.truncate(self.gateway.log_path, 0)
        if not self.setup.is_embedded:
            with redis.Redis.from_url(self.store.url) as client:
                client.flushall()

    @contextlib.contextmanager
    def holding(self, request: bytes) -> Iterator[None]:
        """Keep ``request`` in flight, if there is one. Raises ``WrongAnswers`` when it does not stay there."""
        if not request:
            yield
            return
        with socket.create_connection((HOST, self.gateway.port)) as connection:
            # Closed at once: one that closes only its sending side would get its answer first.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.settimeout(_HOLD_SECONDS)
            connection.sendall(request)
            with contextlib.suppress(TimeoutError):
                raise WrongAnswers(f"the request to be held was answered: {connection.recv(1024)!r}")
            yield
            # What wrk left behind under way is to find it held too.
            time.sleep(_QUIET_SECONDS)

    def take_ids(self, expected: int) -> set[str]:
        """Take everything off the queue, and go on until there are so many, or for some seconds.

        wrk leaves when its time is up: what it had in flight may come a little later.
        """
        taken: set[str] = set()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            found = self._from_file() if self.setup.is_embedded else asyncio.run(self._from_broker())
            taken |= found
            if not found and (len(taken) >= expected or time.monotonic() > deadline):
                return taken

    async def _from_broker(self) -> set[str]:
        found: set[str] = set()
        async with channel_of(self.backend.rabbitmq_url) as channel:
            arrived = asyncio.Event()

            async def take(message: aiormq.abc.DeliveredMessage) -> None:
                assert message.header.properties.message_id is not None
                found.add(message.header.properties.message_id)
                arrived.set()

            await channel.basic_consume(self.backend.queue, take, no_ack=True)
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(arrived.wait(), _QUIET_SECONDS)
                    arrived.clear()
        return found

    def _from_file(self) -> set[str]:
        path = self.backend.rabbitmq_url.removeprefix("embedded:")
        time.sleep(_QUIET_SECONDS)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            return {row[0] for row in connection.execute("DELETE FROM messages RETURNING tracking_id")}

    def _send(self, request: Load) -> httpx.Response:
        return self.gateway.http.post(SEND, content=request.body, headers=dict(request.headers))


@contextlib.contextmanager
def running(setup: Setup, store: RedisServer, broker: RabbitServer) -> Iterator[Contender]:
    """A gateway set up so, until the end of the ``with``; what it has declared on the broker goes with it."""
    directory = Path(tempfile.mkdtemp(prefix=f"bench-{setup.name}-"))
    file = f"embedded:{directory / 'gateway.db'}"
    urls = (file, file) if setup.is_embedded else (store.url, broker.url)
    backend = Backend(setup.name, *urls)
    environ = {
        **backend.environ(),
        "CLIENT_CONFIG": setup.clients(),
        "PROVIDERS_CONFIG": json.dumps(PROVIDERS),
        **setup.environ,
    }
    gateway = Gateway(directory, environ, setup.workers)
    try:
        gateway.start()
        yield Contender(setup, backend, gateway, store, broker)
    finally:
        # Also when it was interrupted while starting.
        gateway.__exit__()
        shutil.rmtree(directory)
    if not setup.is_embedded:
        asyncio.run(remove_topology(backend.rabbitmq_url, backend.queue))
