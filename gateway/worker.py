"""One of several workers, as it is to itself: what it has from its supervisor, and what it tells it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass

from gateway.observability.snapshots import Share

STARTING, SERVING = b".", b"s"
"""What a worker says: that its event loop runs, and that it serves as well."""

TELL_SECONDS = 1.0
"""How often it says so."""


@dataclass(slots=True)
class Worker:
    """``link`` leads to the supervisor, and ends with it; ``share`` holds what this worker and the others count."""

    link: socket.socket
    share: Share
    state: bytes = STARTING

    def serve(self) -> None:
        """It serves from now on: the supervisor hears of it at once."""
        self.state = SERVING
        self._tell()

    async def keep_in_touch(self) -> None:
        """Tell the supervisor every second how it stands; when that is gone, end this process, in good order.

        A supervisor that is killed cannot tell its workers. They would serve on, and keep the port from the next one.
        """
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self.link, gone.set)
        try:
            while not gone.is_set():
                self._tell()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TELL_SECONDS):
                        await gone.wait()
        finally:
            loop.remove_reader(self.link)
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self) -> None:
        # A supervisor that is stopped does not read, and one that is gone is noticed above.
        with contextlib.suppress(OSError):
            self.link.send(self.state)
