"""The life of a process: it is spared needless work; told to end, it is drained, and over at one deadline."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import FrameType

from loguru import logger

OK, CANNOT_START, CUT_OFF = 0, 3, 4
"""Exit codes: told to end, and done so; could not start; told to end, and ended by force for being late."""

CLOSE_SECONDS = 13.8
"""After the signal to end: connections that are not closed by then are left to the end of the process."""

END_SECONDS = 14.1
"""After it, when the process is ended by force."""

HANGUP = (
    "SIGHUP changes nothing: what is configured is read once. "
    "Restart the gateway to have it serve another configuration"
)
"""What is logged on SIGHUP."""


class Ending:
    """The end of the application: ``drain`` is called when it is told, and all that follows shares one deadline."""

    def __init__(self, drain: Callable[[], None]) -> None:
        self._drain = drain
        self._deadline: float | None = None

    def begin(self) -> None:
        """The time begins to run, if it does not already."""
        if self._deadline is None:
            self._deadline = time.monotonic() + CLOSE_SECONDS
            self._drain()

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """Begin when the server is told to end, before it acts on it.

        The server has put its own signal handlers in place when the lifespan begins; ours goes before them.
        """
        loop = asyncio.get_running_loop()
        servers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.begin)
            server = servers[signal.Signals(number)]
            if callable(server):
                server(number, frame)

        with _handlers(dict.fromkeys(servers, handle)):
            yield

    async def close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Run ``close`` up to the deadline; each has at least its first step."""
        self.begin()
        assert self._deadline is not None
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                await close()
        except TimeoutError:
            logger.warning("the time to end is over: {} was cut short", close.__qualname__)


@contextlib.contextmanager
def on_hangup() -> Iterator[None]:
    """Say on SIGHUP that it changes nothing. It ends nobody: a terminal that goes away does not end a service."""
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(logger.warning, HANGUP)

    with _handlers({signal.SIGHUP: handle}):
        yield


@contextlib.contextmanager
def _handlers(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Put signal handlers in place, and those that were there before back."""
    before = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
    except ValueError:  # Not in the main thread: signals are somebody else's there.
        before = {}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def end_for_certain() -> None:
    """Have this process ended by force if it has not ended by itself, whatever hangs in it.

    With ``CUT_OFF``, or by SIGALRM where the system has no thread left for it.
    """
    timer = threading.Timer(END_SECONDS, os._exit, (CUT_OFF,))
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, END_SECONDS)


def tune_gc() -> None:
    """Keep the collector from walking again and again through what lives as long as the process.

    Requests leave hardly any cycles behind, so it has little to find; by default it would take a sixth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
