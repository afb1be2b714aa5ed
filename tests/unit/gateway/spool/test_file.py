"""The file of the spool: its bound, what is told of it, and that messages which come together are stored together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.dependency import Degraded, Full
from gateway.embedded.database import Database
from gateway.embedded.failures import NotDone
from gateway.spool import file
from gateway.spool.file import Spool, SpoolFull
from pipeline.facts import Message
from tests.contract.outboxes import envelope, usable


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """An open one, for five messages."""
    spool = Spool(Database(tmp_path / "spool.db"), 5)
    await spool.start()
    await usable(spool)
    yield spool
    await spool.close()


async def test_it_tells_its_depth_and_age(spool: Spool) -> None:
    assert spool.name == "spool"
    assert spool.look() == (0, 0)
    assert not spool.is_waited_in()
    await spool.ping()
    old = replace(envelope(), created_at=datetime.now(UTC) - timedelta(seconds=60))
    for one in (old, envelope()):
        await spool.publish(one)
    messages, oldest_seconds = spool.look()
    assert messages == 2
    assert 60 <= oldest_seconds < 90
    assert spool.is_waited_in()
    assert spool.look_for(old.message.to) == (2, True)
    assert spool.look_for("+14155552671") == (2, False)
    with pytest.raises(Degraded, match=r"2 messages wait, the oldest for \d+\.\d s") as raised:
        await spool.ping()
    assert raised.value.state == "degraded"
    await spool.outbox.remove(
        {message.position: message.tracking_id for message in await spool.outbox.waiting()}
    )
    assert spool.look() == (0, 0)
    await spool.ping()


async def test_at_its_bound_it_refuses(spool: Spool) -> None:
    for _ in range(5):
        await spool.publish(envelope())
    with pytest.raises(SpoolFull, match="the spool is full: 5 messages wait, 5 may"):
        await spool.publish(envelope())
    with pytest.raises(Full, match="5 may"):
        await spool.ping()
    [first, *_] = await spool.outbox.waiting()
    await spool.outbox.remove({first.position: first.tracking_id})
    await spool.publish(envelope())
    assert spool.depth().messages == 5


@pytest.mark.parametrize("waits_already", [False, True], ids=["the first", "behind another"])
async def test_what_comes_together_is_stored_together(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, waits_already: bool
) -> None:
    """Not at the same moment, but within some milliseconds: none of it has waited for another's answer."""
    before = [envelope()] if waits_already else []
    for one in before:
        await spool.publish(one)
    monkeypatch.setattr(file, "_GATHER_BEHIND_OTHERS_SECONDS" if waits_already else "_GATHER_SECONDS", 0.5)

    async def publish(after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        await spool.publish(envelope())

    await asyncio.gather(*map(publish, (0, 0.1, 0.2)))
    waiting = (await spool.outbox.waiting())[len(before) :]
    stored = [message.stored_at for message in waiting if message.stored_at is not None]
    assert len(stored) == 3
    assert max(message.created_at for message in waiting) + timedelta(seconds=0.1) < min(stored)


async def test_only_who_goes_behind_others_takes_longer(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code to a number of its own is answered as soon as ever."""
    await spool.publish(envelope())
    monkeypatch.setattr(file, "_GATHER_BEHIND_OTHERS_SECONDS", 0.5)
    behind = asyncio.create_task(spool.publish(envelope()))
    await asyncio.sleep(0)
    await spool.publish(replace(envelope(), message=Message("+14155552671", "Hello", 3600)))
    assert not behind.done()
    await behind


async def test_who_is_cancelled_takes_nobody_along(spool: Spool) -> None:
    first, second = envelope(), envelope()
    publishing = [asyncio.create_task(spool.publish(one)) for one in (first, second)]
    await asyncio.sleep(0)
    publishing[0].cancel()
    started = time.monotonic()
    ends = await asyncio.gather(*publishing, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1] is None
    assert time.monotonic() - started < 10
    assert [message.tracking_id for message in await spool.outbox.waiting()] == [second.tracking_id]


async def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """Nothing is known to wait there then, and metrics say that they do not know."""
    spool = Spool(Database(tmp_path / "missing.db"), 10)
    with pytest.raises(NotDone, match=r"missing\.db"):
        spool.depth()
    assert not spool.is_waited_in()
    assert spool.look_for("+989121234567") == (0, False)
    assert all(map(math.isnan, spool.look()))
