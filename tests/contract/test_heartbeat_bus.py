"""What every bus of heartbeats promises."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import HARNESSES, ON_SERVERS, Harness, LivingBus
from tests.support.needs import params
from tests.support.waiting import eventually, once_served


@pytest.fixture(params=params(HARNESSES, servers=ON_SERVERS))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """A place of the test's own."""
    async with HARNESSES[request.param](request) as harness:
        yield harness


@contextlib.asynccontextmanager
async def opened(
    harness: Harness, receive: Callable[[bytes], None] | None = None
) -> AsyncIterator[LivingBus]:
    """A bus that has sent a first heartbeat, closed in the end."""
    bus = harness.bus()
    if receive is not None:
        bus.listen(receive)
    await bus.start()
    try:
        await once_served(lambda: bus.send(b'"opened"'), (BrokerRefused, BrokerUnknown))
        yield bus
    finally:
        await bus.close()


def heartbeat(number: int) -> bytes:
    return orjson.dumps({"number": number})


async def arrived(heard: list[bytes], *expected: bytes) -> None:
    """Wait until these are among what was heard."""
    await eventually(lambda: set(expected) <= set(heard))


async def test_everybody_hears_everybody_and_themselves(harness: Harness) -> None:
    heard: tuple[list[bytes], list[bytes]] = ([], [])
    async with opened(harness, heard[0].append) as one, opened(harness, heard[1].append) as other:
        await one.send(heartbeat(1))
        await other.send(heartbeat(2))
        for listener in heard:
            await arrived(listener, heartbeat(1), heartbeat(2))
        for listener in heard:
            assert listener.count(heartbeat(1)) == listener.count(heartbeat(2)) == 1


async def test_a_sender_need_not_listen(harness: Harness) -> None:
    heard: list[bytes] = []
    async with opened(harness, heard.append), opened(harness) as deaf:
        await deaf.send(heartbeat(1))
        await arrived(heard, heartbeat(1))


async def test_a_listener_that_fails_hears_the_next_one(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []

    def fail_once(body: bytes) -> None:
        heard.append(body)
        if body == heartbeat(1):
            raise ValueError("not what I can read")

    async with opened(harness, fail_once) as bus:
        await bus.send(heartbeat(1))
        await arrived(heard, heartbeat(1))
        await bus.send(heartbeat(2))
        await arrived(heard, heartbeat(2))
    # By a logger of ours: those of the library are silent, lest they quote a message.
    assert any(record.exc_info and record.name.startswith("gateway.") for record in caplog.records)


async def test_a_closed_bus_refuses(harness: Harness) -> None:
    async with opened(harness) as bus:
        pass
    with pytest.raises(BrokerRefused):
        await bus.send(heartbeat(1))


async def test_start_does_not_wait_and_close_needs_no_connection(harness: Harness) -> None:
    """Also where nobody answers, however long that is."""
    async with harness.silenced():
        bus = harness.bus()
        bus.listen(lambda body: None)
        started = time.monotonic()
        await bus.start()
        assert time.monotonic() - started < 1
        # Nor may it be long, and it may be busy with its attempt to connect.
        async with asyncio.timeout(15):
            await bus.close()
    async with opened(harness):
        pass
