"""The supervisor of several workers: it starts them, replaces those that end, and ends them when it is told to.

Workers are forked from it. So each serves the configuration, and the program, that the supervisor has read: nothing is
read again when one is replaced, whatever has become of the files since, and nothing is handed over where others could
read it. For that the supervisor has neither threads, nor an event loop, nor connections.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from loguru import logger

from gateway.observability.snapshots import Snapshots
from gateway.process import CANNOT_START, CUT_OFF, HANGUP, OK
from gateway.worker import SERVING, Worker

END_SECONDS = 14.4
"""How long workers may take to end, after which they are killed; longer than they take by themselves."""

_TICK_SECONDS = 1.0
_SILENT_TICKS = 30
_NO_ROOM_SECONDS = 0.05
# From one start in a place to the next: at least the first, and after each failed start twice as long, up to the last.
_RETRY_SECONDS = (1.0, 30.0)
_MOST_FAILURES = 3
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class _Place:
    """One of the workers, and those that are started in its place."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0  # None runs.
        self.link: socket.socket | None = None
        self.is_serving = False
        self.silent_ticks = 0
        self.failures = 0
        self.started = 0.0
        self.due = 0.0

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.pid})"


class Supervisor:
    """Of ``workers`` processes that share ``listener``, which is bound; they listen on it when they serve.

    ``flush_log`` is called every second: what its reader had no room for must not wait for the next line.
    """

    def __init__(
        self, listener: socket.socket, workers: int, flush_log: Callable[[], object] = lambda: None
    ) -> None:
        self._listener = listener
        self._flush_log = flush_log
        self._places = [_Place(number) for number in range(1, workers + 1)]
        self._snapshots = Snapshots(workers)
        self._ticked = time.monotonic()
        self._end_by: float | None = None
        self._code = OK
        # Nobody listens before the first worker does.
        self._has_served = self._turns_away = False
        self._selector = selectors.DefaultSelector()
        self._signals, self._waker = socket.socketpair()
        listener.setblocking(False)

    def run(self) -> Worker | int:
        """Supervise until SIGTERM or SIGINT, or until no worker can start. Returns twice, as ``os.fork`` does.

        In each worker what it needs, in the supervisor its exit code.
        """
        for end in (self._signals, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _noted)
        self._selector.register(self._signals, selectors.EVENT_READ)
        while True:
            for place in self._places:
                if self._end_by is None and not place.pid and place.due <= time.monotonic():
                    worker = self._start(place)
                    if worker is not None:
                        return worker
            self._wait()
            if self._end_by is None:
                self._look()
            elif not any(place.pid for place in self._places):
                self._close()
                return self._code
            elif time.monotonic() > self._end_by:
                self._cut_off()

    def _start(self, place: _Place) -> Worker | None:
        """Fork a worker; returns what it needs, in the worker."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as failure:
            self._do_without(place, failure)
            return None
        for end in (ours, theirs):
            end.setblocking(False)
        # What arrives meanwhile waits: a worker must not take a signal for its supervisor's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            place.pid = os.fork()
        except OSError as failure:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            ours.close()
            theirs.close()
            self._do_without(place, failure)
            return None
        if place.pid == 0:
            ours.close()
            self._leave_to_the_supervisor()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return Worker(theirs, self._snapshots.share(place.number - 1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        place.link, place.is_serving, place.silent_ticks, place.started = ours, False, 0, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, place)
        return None

    def _do_without(self, place: _Place, failure: OSError) -> None:
        """The system has no process, or no file, for a worker: others serve meanwhile."""
        pause = self._put_off(place)
        logger.error(
            "no process for worker {}: {}: tried again in {:g} s", place.number, failure.strerror, pause
        )

    def _leave_to_the_supervisor(self) -> None:
        """In a worker: drop what it must not hold. The others' links would not end with the supervisor."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The supervisor answers for all of them.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._close()

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for end in (self._signals, self._waker, *(place.link for place in self._places)):
            if end is not None:
                end.close()

    def _wait(self) -> None:
        """Wait for a second at the most for what happens, and take it in."""
        due = [self._end_by] if self._end_by else [place.due for place in self._places if not place.pid]
        seconds = min([_TICK_SECONDS, *(at - time.monotonic() for at in due)])
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.fileobj is self._signals:
                for number in set(self._signals.recv(4096)):
                    self._handle(number)
            elif key.fileobj is self._listener:
                try:
                    self._listener.accept()[0].close()
                except OSError:
                    # Its client has gone already, or there is no room for files: then it waits, and so must we.
                    time.sleep(_NO_ROOM_SECONDS)
            else:
                self._hear(key.data)
        for place in self._places:
            if place.pid:
                self._reap(place)
        if time.monotonic() - self._ticked >= _TICK_SECONDS:
            self._ticked = time.monotonic()
            self._tick()

    def _handle(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT) and self._end_by is None:
            self._end()
        elif number == signal.SIGHUP:
            logger.warning(HANGUP)

    def _hear(self, place: _Place) -> None:
        assert place.link is not None
        try:
            said = place.link.recv(4096)
        except OSError:
            said = b""
        place.silent_ticks = 0
        if not said:
            # It has ended, or is about to.
            self._selector.unregister(place.link)
            place.link.close()
            place.link = None
        elif SERVING in said and not place.is_serving:
            place.is_serving, place.failures = True, 0
            self._has_served = True
            self._turn_away(False)

    def _reap(self, place: _Place) -> None:
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {_name(-code)}" if code < 0 else f"exit code {code}"
        if self._end_by is not None:
            self._code = self._code or (CUT_OFF if code else OK)
        elif place.is_serving:
            place.due = place.started + _RETRY_SECONDS[0]
            logger.warning("{} has ended, {}: another takes its place", place, how)
        else:
            pause = self._put_off(place)
            logger.error("{} has ended before it served, {}: tried again in {:g} s", place, how, pause)
        if place.link is not None:
            self._selector.unregister(place.link)
            place.link.close()
        place.pid, place.link, place.is_serving = 0, None, False
        self._snapshots.forget_live(place.number - 1)

    def _put_off(self, place: _Place) -> float:
        """A start has failed: the next one is due after a pause; returns its seconds."""
        least, most = _RETRY_SECONDS
        pause: float = min(least * 2 ** min(place.failures, 10), most)
        place.failures += 1
        place.due = time.monotonic() + pause
        return pause

    def _look(self) -> None:
        """While nobody serves let nobody wait, and end when nobody ever will."""
        if any(place.is_serving for place in self._places):
            return
        self._turn_away(self._has_served)
        if all(place.failures >= _MOST_FAILURES for place in self._places):
            logger.critical(
                "no worker can start: each has failed {} times in a row, for what the lines before this one say. "
                "The gateway ends",
                _MOST_FAILURES,
            )
            self._code = CANNOT_START
            self._end()

    def _turn_away(self, is_on: bool) -> None:
        """Accept connections here, only to close them, so that no client waits for an answer; or no longer do so."""
        if is_on == self._turns_away or self._listener.fileno() < 0:
            return
        self._turns_away = is_on
        if is_on:
            self._selector.register(self._listener, selectors.EVENT_READ)
        else:
            self._selector.unregister(self._listener)

    def _tick(self) -> None:
        """Count the seconds in which a worker says nothing: ours, of which none pass while we are stopped as well."""
        self._flush_log()
        for place in self._places:
            place.silent_ticks += 1
            if place.pid and place.silent_ticks > _SILENT_TICKS:
                place.silent_ticks = 0
                logger.error("{} has said nothing for {} s: it hangs, and is killed", place, _SILENT_TICKS)
                os.kill(place.pid, signal.SIGKILL)

    def _end(self) -> None:
        """Have all workers end in good order."""
        self._end_by = time.monotonic() + END_SECONDS
        self._turn_away(False)
        self._listener.close()
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signal.SIGTERM)

    def _cut_off(self) -> None:
        for place in self._places:
            if place.pid:
                logger.error("{} has not ended within {:g} s: it is killed", place, END_SECONDS)
                os.kill(place.pid, signal.SIGKILL)
        assert self._end_by is not None
        self._end_by += END_SECONDS


def _name(number: int) -> str:
    """Of a signal; of most real-time signals there is none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _noted(number: int, frame: FrameType | None) -> None:
    """The number is written to the wakeup descriptor."""


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
