"""What the embedded file costs as it grows: commits, reading, moving on, and cleaning up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gateway.embedded.database import Database
from gateway.embedded.moving.mover import Mover
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.facts import Claim, Client
from tests.bench.growth import rows
from tests.bench.growth.backlog import envelope
from tests.bench.growth.report import ROOT, Table, say

_PAGE = 100
_CLIENT = Client("shop0001")


def measure(count: int, seconds: float) -> list[Table]:
    """With an empty file and with ``count`` rows in it: messages that wait, or claims."""
    waiting = Table(
        "embedded",
        "Messages waiting in the embedded file",
        (
            "waiting",
            "file MiB",
            "commit alone ms",
            "its CPU µs",
            "commit of 64 at once, µs each",
            "count ms",
            "page of 100 ms",
            "moving one on µs",
            "`messages` s",
        ),
    )
    claims = Table(
        "claims",
        "Claims in the embedded file",
        ("claims", "expired", "file MiB", "begin p50 ms", "begin p99 ms", "its CPU µs", "cleaned/s"),
    )
    for number in (0, count):
        say(f"{number:,} messages in the file")
        with rows.file() as path:
            rows.add_messages(path, number)
            waiting.add(number, rows.size_mib(path), *asyncio.run(around_messages(path, seconds)), show(path))
    for number, expired in ((0, False), (count, False), (count, True)):
        say(f"{number:,} claims in the file{', expired' * expired}")
        with rows.file() as path:
            rows.add_claims(path, number, expired=expired)
            size = rows.size_mib(path)
            claims.add(
                number, "yes" if expired else "no", size, *asyncio.run(around_claims(path, number, seconds))
            )
    return [waiting, claims]


async def around_messages(path: Path, seconds: float) -> list[float]:
    """What it takes to store, count, read and move on messages."""
    outbox = EmbeddedOutbox(Database(path), confirm_seconds=60.0)
    await outbox.start()

    async def publish() -> None:
        await outbox.publish(envelope())

    try:
        alone = await rows.repeat(publish, 1, seconds)
        together = await rows.repeat(publish, 64, seconds)
        started = time.perf_counter()
        await outbox.count()
        counted = time.perf_counter()
        await outbox.waiting(limit=_PAGE)
        read = time.perf_counter()
        return [
            alone.milliseconds(50),
            alone.cpu_microseconds,
            together.microseconds_each,
            (counted - started) * 1e3,
            (read - counted) * 1e3,
            await moving_one_on(outbox, seconds),
        ]
    finally:
        await outbox.close()


class _Sink:
    """Takes every message at once, so that only the file's share of moving is measured."""

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        """See ``gateway.embedded.moving.mover.Destination``."""


async def moving_one_on(outbox: EmbeddedOutbox, seconds: float) -> float:
    """The µs that pass for one message, from the file to a destination that takes no time."""
    stop = asyncio.Event()
    mover = Mover(outbox, _Sink(), on_trouble=lambda error: say(str(error)))
    started = time.perf_counter()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await mover.run(stop, follow=False)
    return (time.perf_counter() - started) / mover.moved * 1e6


def show(path: Path) -> float:
    """The seconds that ``sms-gateway messages`` takes for all that waits."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "gateway", "messages"],
        cwd=path.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "RABBITMQ_URL": f"embedded:{path}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


async def around_claims(path: Path, number: int, seconds: float) -> list[float]:
    """How long a claim takes to begin, and how many of the old ones are cleaned up meanwhile."""
    store = EmbeddedStore(Database(path), call_seconds=60.0)
    await store.start()

    async def begin() -> None:
        await store.begin(Claim.on(_CLIENT, str(uuid.uuid4()), hashlib.sha256().digest()))

    try:
        begun = await rows.repeat(begin, 1, seconds)
    finally:
        await store.close()
    cleaned = number + len(begun.seconds) - rows.count(path, "claims")
    return [
        begun.milliseconds(50),
        begun.milliseconds(99),
        begun.cpu_microseconds,
        cleaned / begun.elapsed,
    ]
