"""``sms-gateway forward`` from an embedded outbox to a real RabbitMQ: nothing lost, nothing doubled, in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused
from tests.contract.outboxes import envelope, usable
from tests.support.broker import consume
from tests.support.disks import fill, small_disk
from tests.support.servers import HOST, RabbitServer, free_port

ROOT = Path(__file__).parents[2]
PATIENT_SECONDS = 60.0

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def queue() -> str:
    """A queue of the test's own."""
    return f"forward.{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[EmbeddedOutbox]:
    """An open one."""
    outbox = EmbeddedOutbox(Database(tmp_path / "gateway.db"))
    await outbox.start()
    await outbox.remove({})
    yield outbox
    await outbox.close()


@pytest.fixture
def start(tmp_path: Path, queue: str, rabbit_server: RabbitServer) -> Start:
    """Starts the command as an operator does."""

    def run(
        *options: str, url: str = rabbit_server.url, path: Path = tmp_path / "gateway.db"
    ) -> subprocess.Popen[str]:
        file = f"embedded:{path}"
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": file,
            "RABBITMQ_URL": file,
            "RABBITMQ_EXCHANGE": queue,
            "RABBITMQ_QUEUE": queue,
            "CLIENT_CONFIG": '{"a-key-of-twenty-chars": {"name": "demo"}}',
            "PROVIDERS_CONFIG": '{"alpha": {}}',
        }
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", "forward", "--to", url, *options],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Another process that publishes, and prints the tracking_ids of what is stored."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.embedded_worker", "publish", path, name, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


async def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """The exit code, and the figures in the last line."""
    out, err = await asyncio.to_thread(process.communicate, timeout=PATIENT_SECONDS)
    assert out, err
    return process.returncode, json.loads(out.splitlines()[-1])


async def publish(outbox: EmbeddedOutbox, count: int) -> list[Envelope]:
    """Store so many messages, in order."""
    sent = [envelope(f"text {number}") for number in range(count)]
    await asyncio.gather(*map(outbox.publish, sent))
    return sent


async def until_left(outbox: EmbeddedOutbox, count: int) -> None:
    """Wait until no more than so many messages wait."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while await outbox.count() > count:
            await asyncio.sleep(0.005)


async def test_everything_is_moved_in_order_as_it_was_stored(
    outbox: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """Byte for byte, with the properties that a gateway on RabbitMQ would have given it, and the life that is left."""
    sent = await publish(outbox, 30)
    code, figures = await ended(start())
    assert code == 0
    assert figures.pop("seconds") > 0
    assert figures == {"moved": 30, "expired": 0, "repeated": 0, "left": 0}
    assert await outbox.count() == 0
    arrived = await consume(rabbit_server.url, queue)
    assert [body for _, body in arrived] == [one.to_json() for one in sent]
    assert [properties.message_id for properties, _ in arrived] == [one.tracking_id for one in sent]
    for properties, _ in arrived:
        assert properties.message_type == "sms.outbound.v1"
        assert properties.delivery_mode == 2
        assert 3_000_000 < int(properties.expiration) <= 3_600_000
        assert properties.timestamp == sent[0].created_at.replace(microsecond=0)


async def test_a_forwarder_that_is_killed_again_and_again_loses_and_doubles_nothing(
    outbox: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """SIGKILL in mid-work: at most the one message in flight is there twice, at its place, under one tracking_id."""
    sent = [one.tracking_id for one in await publish(outbox, 400)]
    kills = 0
    for left in (330, 220, 110):
        with start() as process:
            await until_left(outbox, left)
            process.kill()
            kills += 1
    code, figures = await ended(start())
    assert (code, figures["left"]) == (0, 0)
    arrived = [properties.message_id for properties, _ in await consume(rabbit_server.url, queue)]
    once = [one for one, before in zip(arrived, [None, *arrived], strict=False) if one != before]
    assert once == sent
    assert len(arrived) - len(sent) <= kills


async def test_what_is_published_meanwhile_is_moved_too(
    outbox: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """With ``--follow``, while other processes write; SIGTERM ends it, and that is no error."""
    forwarder = start("--follow")
    writers = [writer(outbox.database.path, name, 100) for name in "ab"]
    sent = [one.tracking_id for one in await publish(outbox, 50)]
    for process in writers:
        sent += (await asyncio.to_thread(process.communicate))[0].splitlines()
    await until_left(outbox, 0)
    forwarder.send_signal(signal.SIGTERM)
    code, figures = await ended(forwarder)
    assert code == 0
    assert (figures["moved"], figures["left"]) == (250, 0)
    arrived = [properties.message_id for properties, _ in await consume(rabbit_server.url, queue)]
    assert sorted(arrived) == sorted(sent)


async def test_an_expired_message_is_dead_lettered(
    outbox: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """Too late to be delivered, it ends where the delivery side finds expired messages."""
    expired = replace(envelope(), created_at=datetime.now(UTC) - timedelta(hours=2))
    await outbox.publish(expired)
    code, figures = await ended(start())
    assert code == 0
    assert (figures["moved"], figures["expired"]) == (1, 1)
    async with asyncio.timeout(PATIENT_SECONDS):
        dead: list[tuple[Any, bytes]] = []
        while not dead:
            dead = await consume(rabbit_server.url, f"{queue}.dead")
    assert [properties.message_id for properties, _ in dead] == [expired.tracking_id]
    assert await consume(rabbit_server.url, queue) == []


async def test_a_second_forwarder_is_sent_away(
    outbox: EmbeddedOutbox, start: Start, rabbit_server: RabbitServer
) -> None:
    """While the first lives; when that was killed, the next one takes over."""
    await publish(outbox, 1)
    with start("--follow") as first:
        await until_left(outbox, 0)
        second = start()
        _, complaint = await asyncio.to_thread(second.communicate)
        assert second.returncode == 1
        assert "another process is forwarding" in complaint
        first.kill()
    await publish(outbox, 1)
    assert (await ended(start()))[0] == 0
    assert await outbox.count() == 0


async def test_a_broker_that_comes_later_gets_everything(
    outbox: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """It waits for a broker that is down, and goes on waiting when the connection is cut in mid-work."""
    sent = [one.tracking_id for one in await publish(outbox, 300)]
    port = free_port()
    forwarder = start(url=rabbit_server.url.replace(f":{rabbit_server.port}/", f":{port}/"))
    assert forwarder.stderr is not None
    assert (await asyncio.to_thread(forwarder.stderr.readline)).startswith("waiting: ")
    async with relay(port, rabbit_server.port) as cut:
        await until_left(outbox, 200)
        cut()
        code, figures = await ended(forwarder)
    assert (code, figures["left"]) == (0, 0)
    arrived = [properties.message_id for properties, _ in await consume(rabbit_server.url, queue)]
    once = [one for one, before in zip(arrived, [None, *arrived], strict=False) if one != before]
    assert once == sent
    assert len(arrived) - len(sent) <= figures["repeated"] <= 1


async def publish_until_full(outbox: EmbeddedOutbox) -> list[str]:
    """Store messages until there is no room, not even in the log."""
    sent: list[str] = []
    while True:
        one = envelope("x" * 1000)
        try:
            await outbox.publish(one)
        except BrokerRefused:
            return sent
        sent.append(one.tracking_id)


@pytest.fixture
async def on_small_disk(tmp_path: Path) -> AsyncIterator[EmbeddedOutbox]:
    """An open outbox on a disk of 4 MiB."""
    with small_disk(tmp_path / "disk", mib=4) as disk:
        outbox = EmbeddedOutbox(Database(disk / "gateway.db"))
        await outbox.start()
        await usable(outbox)
        yield outbox
        await outbox.close()


async def test_everything_is_moved_from_a_full_disk(
    on_small_disk: EmbeddedOutbox, start: Start, queue: str, rabbit_server: RabbitServer
) -> None:
    """In order and once, and forgotten, with the disk as full as before."""
    sent = await publish_until_full(on_small_disk)
    fill(on_small_disk.database.path.parent)
    code, figures = await ended(start(path=on_small_disk.database.path))
    assert (code, figures["moved"], figures["left"]) == (0, len(sent), 0)
    arrived = [properties.message_id for properties, _ in await consume(rabbit_server.url, queue)]
    assert arrived == sent


@contextlib.asynccontextmanager
async def relay(port: int, to: int) -> AsyncIterator[Callable[[], None]]:
    """Connections to ``port`` are passed on to the port ``to``; gives a function that cuts them all."""
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, to)
        writers.extend((writer, back))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    def cut() -> None:
        for writer in writers:
            writer.transport.abort()

    async with await asyncio.start_server(accept, HOST, port, family=socket.AF_INET):
        yield cut
        cut()
