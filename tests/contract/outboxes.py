"""The adapters that keep the contracts of ``Outbox`` and ``HeartbeatBus``; who writes another adds it below."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from gateway.dependency import ConnectionWatcher, Dependency, HeartbeatBus
from gateway.embedded.database import Database
from gateway.embedded.heartbeats import EmbeddedHeartbeats
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.rabbitmq import RabbitHeartbeats, RabbitOutbox, Topology
from gateway.spool.file import Spool
from gateway.spool.outbox import SpoolingOutbox
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Message, Route
from pipeline.ports import Outbox
from tests.support.broker import consume, remove_topology
from tests.support.servers import HOST, RabbitServer


class LivingOutbox(Outbox, Dependency, Protocol):
    """What the contract of an outbox is about."""


class LivingBus(HeartbeatBus, Protocol):
    """What the contract of a bus is about."""

    async def start(self) -> None:
        """See ``gateway.dependency.Dependency``."""

    async def close(self) -> None:
        """See ``gateway.dependency.Dependency``."""


class Harness(Protocol):
    """The place that belongs to one test: whatever is made here shares its data."""

    def outbox(self, on_connection: ConnectionWatcher = lambda up: None) -> LivingOutbox:
        """One that is not started."""

    def bus(self) -> LivingBus:
        """One that is not started."""

    async def stored(self) -> list[tuple[str, bytes]]:
        """What the outboxes have stored since this was last asked: tracking_id and body, the oldest first."""

    def silenced(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Inside the ``async with`` nobody answers: a server takes connections and no more, or the file is locked."""


class RabbitHarness:
    """Exchanges and queues of the test's own on the shared server."""

    def __init__(self, url: str, queue_type: str) -> None:
        name = f"test.{uuid.uuid4().hex[:8]}"
        self.url = url
        self.topology = Topology(name, name, queue_type, f"{name}.heartbeat", f"{name}.heartbeat")

    def outbox(self, on_connection: ConnectionWatcher = lambda up: None) -> RabbitOutbox:
        """See ``Harness``."""
        return RabbitOutbox(self.url, self.topology, "server-a", on_connection=on_connection)

    def bus(self) -> RabbitHeartbeats:
        """See ``Harness``."""
        return RabbitHeartbeats(self.url, self.topology, "server-a")

    async def stored(self) -> list[tuple[str, bytes]]:
        """See ``Harness``."""
        found = await consume(self.url, self.topology.queue)
        return [(properties.message_id, body) for properties, body in found]

    @contextlib.asynccontextmanager
    async def silenced(self) -> AsyncIterator[None]:
        """See ``Harness``."""
        url = self.url
        with socket.create_server((HOST, 0)) as silent:
            self.url = f"amqp://guest:guest@{HOST}:{silent.getsockname()[1]}/"
            yield
            self.url = url

    async def remove(self) -> None:
        """Leave nothing on the server."""
        await remove_topology(self.url, self.topology.queue)


class SpoolingHarness:
    """A queue of the test's own on the shared server, and a file beside it."""

    def __init__(self, rabbit: RabbitHarness, path: Path) -> None:
        self.rabbit = rabbit
        self.path = path

    def outbox(self, on_connection: ConnectionWatcher = lambda up: None) -> SpoolingOutbox:
        """See ``Harness``."""
        # Patient, so that on a slow machine nothing goes both ways.
        spool = Spool(Database(self.path), 10_000)
        return SpoolingOutbox(self.rabbit.outbox(on_connection), spool, patience_seconds=30)

    def bus(self) -> RabbitHeartbeats:
        """See ``Harness``."""
        return self.rabbit.bus()

    async def stored(self) -> list[tuple[str, bytes]]:
        """See ``Harness``."""
        return await self.rabbit.stored()

    def silenced(self) -> contextlib.AbstractAsyncContextManager[None]:
        """See ``Harness``."""
        return self.rabbit.silenced()


class EmbeddedHarness:
    """A file of the test's own. Each adapter has a connection of its own, as in processes that share the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._position = 0

    def outbox(self, on_connection: ConnectionWatcher = lambda up: None) -> EmbeddedOutbox:
        """See ``Harness``."""
        return EmbeddedOutbox(Database(self.path), on_connection=on_connection)

    def bus(self) -> EmbeddedHeartbeats:
        """See ``Harness``."""
        return EmbeddedHeartbeats(Database(self.path), poll_seconds=0.05)

    @contextlib.asynccontextmanager
    async def silenced(self) -> AsyncIterator[None]:
        """See ``Harness``."""
        with locked(Path(self.path)):
            yield

    async def stored(self) -> list[tuple[str, bytes]]:
        """See ``Harness``."""
        reader = EmbeddedOutbox(Database(self.path))
        await reader.start()
        waiting = await reader.waiting(after=self._position, limit=10_000)
        await reader.close()
        if waiting:
            self._position = waiting[-1].position
        return [(message.tracking_id, message.body) for message in waiting]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process writes to the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def _rabbitmq(request: pytest.FixtureRequest, queue_type: str) -> AsyncIterator[Harness]:
    server: RabbitServer = request.getfixturevalue("rabbit_server")
    harness = RabbitHarness(server.url, queue_type)
    yield harness
    await harness.remove()


@contextlib.asynccontextmanager
async def _spooling(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    server: RabbitServer = request.getfixturevalue("rabbit_server")
    rabbit = RabbitHarness(server.url, "quorum")
    yield SpoolingHarness(rabbit, request.getfixturevalue("tmp_path") / "spool.db")
    await rabbit.remove()


@contextlib.asynccontextmanager
async def _embedded(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    yield EmbeddedHarness(str(request.getfixturevalue("tmp_path") / "gateway.db"))


MakeHarness = Callable[[pytest.FixtureRequest], contextlib.AbstractAsyncContextManager[Harness]]

HARNESSES: dict[str, MakeHarness] = {
    "rabbitmq": lambda request: _rabbitmq(request, "quorum"),
    "rabbitmq-classic": lambda request: _rabbitmq(request, "classic"),
    "embedded": _embedded,
}

OUTBOXES = {**HARNESSES, "spooling": _spooling}
"""Those, and what carries messages but no heartbeats of its own."""

ON_SERVERS = OUTBOXES.keys() - {"embedded"}


def envelope(text: str = "Hello", tracking_id: str | None = None) -> Envelope:
    """A valid one, with a tracking_id of its own unless it is given one."""
    return Envelope(
        tracking_id=tracking_id or str(uuid.uuid4()),
        client="acme",
        message=Message("+989121234567", text, 3600, ("Alpha",)),
        route=Route(("alpha",)),
        config_fingerprint=ConfigFingerprint("a" * 64, "b" * 64),
        created_at=datetime.now(UTC),
    )


async def usable(dependency: Dependency, within_seconds: float = 30.0) -> None:
    """Wait until it answers."""
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                await dependency.ping()
            except Exception:  # noqa: BLE001 - each adapter has errors of its own, all meaning "not yet"
                await asyncio.sleep(0.02)
            else:
                return
