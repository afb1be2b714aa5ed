"""A worker and its supervisor, over the link between them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import pytest

from gateway.observability.snapshots import Snapshots
from gateway.worker import SERVING, STARTING, Worker
from tests.support.waiting import eventually


@pytest.fixture
def link() -> Iterator[tuple[socket.socket, Worker]]:
    """The supervisor's end, and the worker at the other."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        yield ours, Worker(theirs, Snapshots(1).share(0))


async def test_a_worker_tells_that_it_lives_and_that_it_serves(link: tuple[socket.socket, Worker]) -> None:
    """At once, and again and again."""
    supervisor, worker = link
    telling = asyncio.create_task(worker.keep_in_touch())
    await asyncio.sleep(0)
    assert supervisor.recv(10) == STARTING
    worker.serve()
    assert supervisor.recv(10) == SERVING
    await asyncio.sleep(1.2)
    assert set(supervisor.recv(10)) == set(SERVING)
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling


async def test_a_worker_ends_in_good_order_with_its_supervisor(link: tuple[socket.socket, Worker]) -> None:
    """As if it had been told to, by SIGTERM."""
    supervisor, worker = link
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        telling = asyncio.create_task(worker.keep_in_touch())
        await asyncio.sleep(0)
        supervisor.close()
        await eventually(lambda: told)
        await telling
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]


async def test_a_supervisor_that_is_stopped_holds_nobody_up(link: tuple[socket.socket, Worker]) -> None:
    """What it does not read fills the link, and is dropped from then on."""
    _, worker = link
    with contextlib.suppress(BlockingIOError):
        while True:
            worker.link.send(b"x" * 4096)
    worker.serve()
    assert worker.state == SERVING
