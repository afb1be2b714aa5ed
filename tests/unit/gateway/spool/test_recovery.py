"""When a broker that has failed is taken to have recovered."""

from __future__ import annotations

import asyncio

import pytest

from gateway.spool import recovery as module
from gateway.spool.recovery import Recovery

CALM_SECONDS = 0.1


class Broker:
    """Answers pings while ``is_there``."""

    def __init__(self) -> None:
        self.is_there = False
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1
        if not self.is_there:
            raise ConnectionError


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(module, "CALM_SECONDS", CALM_SECONDS)
    return Broker()


async def test_it_is_over_when_it_confirms_and_has_not_failed_for_a_while(broker: Broker) -> None:
    """One confirm between two failures, as of a queue at its bound, is no recovery."""
    recovery = Recovery(broker.ping)
    recovery.failed()
    recovery.confirmed()
    assert not recovery.is_over()
    await asyncio.sleep(2 * CALM_SECONDS)
    assert recovery.is_over()
    recovery.failed()
    assert not recovery.is_over()
    await asyncio.sleep(2 * CALM_SECONDS)
    assert not recovery.is_over()
    recovery.confirmed()
    assert recovery.is_over()
    recovery.close()


async def test_who_hears_nothing_asks(broker: Broker) -> None:
    """Not more often than it must be calm, and nobody waits for the answer."""
    recovery = Recovery(broker.ping)
    for _ in range(5):
        assert not recovery.is_over()
    assert broker.pings == 0
    await asyncio.sleep(2 * CALM_SECONDS)
    for _ in range(5):
        assert not recovery.is_over()
        await asyncio.sleep(0)
    assert broker.pings == 1
    broker.is_there = True
    async with asyncio.timeout(10):
        while not recovery.is_over():
            await asyncio.sleep(0.01)
    assert broker.pings == 2
    recovery.close()


async def test_an_answer_from_before_a_failure_is_none(broker: Broker) -> None:
    recovery = Recovery(broker.ping)
    broker.is_there = True
    await asyncio.sleep(2 * CALM_SECONDS)
    assert not recovery.is_over()
    recovery.failed()
    await asyncio.sleep(0)
    assert broker.pings == 1
    await asyncio.sleep(0.5 * CALM_SECONDS)
    assert not recovery.is_over()
    recovery.close()
