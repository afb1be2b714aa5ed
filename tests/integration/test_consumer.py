"""The consumer of the page for Server B, taken from there and run against a real RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import Topology
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Message, Route
from pipeline.ports import BrokerRefused
from tests.support.broker import consume
from tests.support.servers import RabbitServer
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "server-b.md"


class Consumer:
    """The running consumer; ``line`` is the next one that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, seconds: float = 20) -> str:
        """The next line. Raises ``queue.Empty`` when none comes."""
        return self._lines.get(timeout=seconds)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))


@contextlib.contextmanager
def running(directory: Path, url: str, queue_name: str) -> Iterator[Consumer]:
    """The consumer in ``directory``, where it keeps what it has seen."""
    (example,) = re.findall(
        r"^```python\n(# consumer\.py\n.*?)^```$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    program = directory / "consumer.py"
    program.write_text(example, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, program],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "RABBITMQ_URL": url, "RABBITMQ_QUEUE": queue_name},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Consumer(process)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def topology() -> Topology:
    """Names of this test's own."""
    name = f"consumer.{uuid.uuid4().hex[:8]}"
    return Topology(name, name, "quorum", f"{name}.heartbeat", f"{name}.heartbeat")


async def test_the_consumer_delivers_once_what_is_still_worth_it(
    rabbit_server: RabbitServer, topology: Topology, tmp_path: Path
) -> None:
    """It drops what it has seen, also after a restart, and what has expired; what it cannot read is put aside."""
    first = envelope()
    routed = replace(envelope(), route=Route(("alpha", "beta")))
    late = replace(envelope(), created_at=datetime.now(UTC) - timedelta(hours=2))
    last = envelope()
    outbox = RabbitOutbox(rabbit_server.url, topology, "server-a")
    await outbox.start()
    try:
        await ready(outbox)
        for each in (first, first, late):
            await outbox.publish(each)
        await outbox.publish_body(str(uuid.uuid4()), b"no JSON", 60_000, datetime.now(UTC))
        await outbox.publish(routed)
        with running(tmp_path, rabbit_server.url, topology.queue) as consumer:
            assert consumer.line() == f"{first.tracking_id} +14155552671 any"
            assert consumer.line().startswith("rejected: JSONDecodeError")
            assert consumer.line() == f"{routed.tracking_id} +14155552671 ['alpha', 'beta']"
            await eventually(lambda: routed.tracking_id in seen(tmp_path))
        await outbox.publish(first)
        await outbox.publish(last)
        with running(tmp_path, rabbit_server.url, topology.queue) as consumer:
            assert consumer.line() == f"{last.tracking_id} +14155552671 any"
            await eventually(lambda: last.tracking_id in seen(tmp_path))
    finally:
        await outbox.close()
    assert seen(tmp_path) == {each.tracking_id for each in (first, routed, last)}
    dead = await consume(rabbit_server.url, topology.dead_queue)
    assert [body for _, body in dead] == [b"no JSON"]


def seen(directory: Path) -> set[str]:
    """The ids that the consumer remembers."""
    with contextlib.closing(sqlite3.connect(directory / "seen.db")) as connection:
        return {tracking_id for (tracking_id,) in connection.execute("SELECT tracking_id FROM seen")}


def envelope() -> Envelope:
    """A message that was just accepted."""
    fingerprint = ConfigFingerprint("0" * 64, "1" * 64)
    message = Message("+14155552671", "Order 1001 is on its way", 3600)
    return Envelope(str(uuid.uuid4()), "shop", message, Route(), fingerprint, datetime.now(UTC))


async def ready(outbox: RabbitOutbox) -> None:
    """Return when the outbox takes messages."""
    async with asyncio.timeout(20):
        while True:
            try:
                await outbox.ping()
            except BrokerRefused:
                await asyncio.sleep(0.05)
            else:
                return
