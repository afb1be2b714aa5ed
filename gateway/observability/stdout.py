"""Lines to stdout: those of one iteration of the event loop go out together, and nobody ever waits for their reader.

A log collector that stalls fills the pipe, and a write to a full pipe would stop the process. So nothing is written
that does not fit; it waits in memory, up to a bound, and what goes beyond that is dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import threading
import time
from collections.abc import Callable

_MOST_BYTES = 8 * 1024 * 1024
_PAUSE_SECONDS = 0.05


class Stdout:
    """Writes to the descriptor ``fd``, from any thread. ``missing`` makes the line that says how many were dropped.

    To a descriptor that is closed nothing is written: every line is dropped and counted.
    """

    def __init__(self, fd: int, missing: Callable[[int], bytes]) -> None:
        self.dropped = 0
        self._fd = fd
        try:
            mode = os.fstat(fd).st_mode
        except OSError:  # Closed by who started this process, as by `>&-`.
            mode = _have_no_reader(fd)
        # So much never blocks when poll has found room; a file has room for everything.
        self._at_once = _MOST_BYTES if stat.S_ISREG(mode) else select.PIPE_BUF
        self._missing = missing
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lines: list[bytes] = []
        self._bytes = 0
        self._rest = memoryview(b"")
        self._told = 0
        self._notices = 0
        # Re-entrant: the garbage collector may run a finalizer that logs while this thread holds it.
        self._lock = threading.RLock()
        self._flushes_in: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def write(self, line: bytes) -> None:
        """Have ``line``, which ends in a line feed, written: at the end of this iteration of the loop, or at once."""
        with self._lock:
            if self._bytes + len(self._rest) > _MOST_BYTES:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
        loop = self._loop_here()
        if loop is None:
            self.flush()
        elif self._flushes_in is not loop:
            self._flushes_in = loop
            loop.call_soon(self._flush_in, loop)

    def _loop_here(self) -> asyncio.AbstractEventLoop | None:
        """The loop that runs in this thread. Asked for once: Python 3.11 makes a system call of it each time."""
        here = threading.get_ident()
        if self._loop is None or self._thread != here or not self._loop.is_running():
            try:
                self._loop, self._thread = asyncio.get_running_loop(), here
            except RuntimeError:
                return None
        return self._loop

    def flush(self, seconds: float = 0) -> bool:
        """Write what there is room for, and wait so long for more; whether all is written."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while self._rest or self._lines:
                if not self._rest:
                    self._gather()
                if not self._poll.poll(max(0, deadline - time.monotonic()) * 1000):
                    return False
                try:
                    self._rest = self._rest[os.write(self._fd, self._piece()) :]
                except OSError:
                    # The reader is gone, or the disk is full: with the next line it may be otherwise.
                    self.dropped += bytes(self._rest).count(b"\n") - self._notices
                    self._rest = memoryview(b"")
            return True

    def forget(self) -> None:
        """Drop what waits, uncounted: whoever forked this process writes it."""
        with self._lock:
            self.dropped = self._told = self._bytes = 0
            self._lines, self._rest = [], memoryview(b"")

    def _flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.flush():
            self._flushes_in = None
        else:
            loop.call_later(_PAUSE_SECONDS, self._flush_in, loop)

    def _gather(self) -> None:
        self._notices = 0
        if self.dropped > self._told:
            self._lines.append(self._missing(self.dropped - self._told))
            self._told = self.dropped
            self._notices = 1
        lines, self._lines, self._bytes = self._lines, [], 0
        self._rest = memoryview(b"".join(lines))

    def _piece(self) -> memoryview:
        """Whole lines where they fit: other workers write to the same pipe, and may get in between two writes."""
        piece = self._rest[: self._at_once]
        if len(piece) == len(self._rest):
            return piece
        return piece[: bytes(piece).rfind(b"\n") + 1] or piece


def hold_standard_descriptors() -> None:
    """Let no file and no connection get the number of standard input, output or error, where they are closed.

    Who starts a process may close them, as by ``2>&-``; and what is opened next gets the lowest number that is free.
    Tracebacks, and what C libraries have to say, would then be written into it. To be called before anything is opened.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            if fd == 1:
                _have_no_reader(fd)
            else:
                _occupy(fd, os.open(os.devnull, os.O_RDWR))


def _have_no_reader(fd: int) -> int:
    """Make ``fd``, which is closed, a pipe whose reader is gone, and return its mode: so its lines count as dropped."""
    reading, writing = os.pipe()
    if reading == fd:
        # The other end is to have its number.
        reading = os.dup(reading)
    _occupy(fd, writing)
    os.close(reading)
    return os.fstat(fd).st_mode


def _occupy(fd: int, opened: int) -> None:
    """Give what is ``opened`` the number ``fd``, for programs that are started from this one as well."""
    if opened != fd:
        os.dup2(opened, fd)
        os.close(opened)
    os.set_inheritable(fd, True)
