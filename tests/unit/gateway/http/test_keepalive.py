"""Connections that idle for too long are told, by one timer for all of them."""

from __future__ import annotations

import asyncio

from gateway.http.keepalive import Idling


class Idle:
    """A connection that notes when it was told."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def timeout_keep_alive_handler(self) -> None:
        self.told.append(asyncio.get_running_loop().time())


async def test_who_idles_for_too_long_is_told_once() -> None:
    """After the time, and at most a second late."""
    loop = asyncio.get_running_loop()
    idling, connection = Idling(0.1), Idle()
    began = loop.time()
    idling.add(connection, loop)
    await asyncio.sleep(0.5)
    assert len(connection.told) == 1
    assert connection.told[0] - began >= 0.1


async def test_who_is_busy_again_is_not() -> None:
    """Nor is one that never idled."""
    loop = asyncio.get_running_loop()
    idling, busy, idle = Idling(0.1), Idle(), Idle()
    idling.discard(idle)
    for connection in (busy, idle):
        idling.add(connection, loop)
    idling.discard(busy)
    await asyncio.sleep(0.5)
    assert (len(busy.told), len(idle.told)) == (0, 1)


async def test_who_idles_anew_has_the_whole_time_anew() -> None:
    """Its first time does not count."""
    loop = asyncio.get_running_loop()
    idling, connection = Idling(0.6), Idle()
    idling.add(connection, loop)
    await asyncio.sleep(0.3)
    idling.discard(connection)
    idling.add(connection, loop)
    began = loop.time()
    while not connection.told:
        await asyncio.sleep(0.05)
    assert connection.told[0] - began >= 0.6


async def test_those_that_come_later_are_told_later() -> None:
    """The timer goes on for as long as anybody idles, and starts again after nobody did."""
    loop = asyncio.get_running_loop()
    idling = Idling(0.05)
    first, second, third = Idle(), Idle(), Idle()
    idling.add(first, loop)
    await asyncio.sleep(0.03)
    idling.add(second, loop)
    began = loop.time()
    async with asyncio.timeout(10):
        while not second.told:
            await asyncio.sleep(0.05)
    assert first.told[0] < second.told[0]
    assert second.told[0] - began >= 0.05
    idling.add(third, loop)
    async with asyncio.timeout(10):
        while not third.told:
            await asyncio.sleep(0.05)


async def test_one_that_fails_keeps_nobody_from_being_told() -> None:
    """Neither those that idle at the same time nor those that come later."""

    class Failing(Idle):
        def timeout_keep_alive_handler(self) -> None:
            raise LookupError

    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
    idling, later = Idling(0.05), Idle()
    idling.add(Failing(), loop)
    await asyncio.sleep(0.2)
    idling.add(later, loop)
    async with asyncio.timeout(10):
        while not later.told:
            await asyncio.sleep(0.05)
    assert len(complaints) == 1
