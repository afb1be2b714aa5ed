"""The life of a process: it is spared needless work; told to end, it is drained; a worker ends with its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_shutdown_signal(drain: Callable[[], None]) -> Iterator[None]:
    """Call ``drain`` when the server is told to end, before it acts on it.

    The server has put its own signal handlers in place when the lifespan begins; ours goes before them.
    """
    try:
        servers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(drain)
            server = servers[signal.Signals(number)]
            if callable(server):
                server(number, frame)

        for name in servers:
            signal.signal(name, handle)
    except ValueError:  # Not in the main thread: signals are somebody else's there.
        servers = {}
    try:
        yield
    finally:
        for name, server in servers.items():
            signal.signal(name, server)


def tune_gc() -> None:
    """Keep the collector from walking again and again through what lives as long as the process.

    Requests leave hardly any cycles behind, so it has little to find; by default it would take a sixth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def end_with_parent() -> None:
    """In a worker: end this process, in good order, when its supervisor is gone.

    A supervisor that is killed cannot tell its workers. They would serve on, and keep the port from the next one.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(supervisor.sentinel, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(supervisor.sentinel)
    os.kill(os.getpid(), signal.SIGTERM)
