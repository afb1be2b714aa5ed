"""What the supervisor survives, and how long it waits; ``tests/integration/test_workers.py`` has the rest."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gateway.observability.stdout import Stdout
from gateway.supervisor import Supervisor


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """Of one worker, which has not been started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(listener, 1)
        yield supervisor
        supervisor._close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A child that takes no part in anything."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("lacking", ["a process", "a file"])
def test_a_worker_that_the_system_has_no_room_for_is_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Neither ends the supervisor, and so the workers that serve."""

    def refuse() -> None:
        raise OSError(errno.ENFILE, "no room")

    monkeypatch.setattr(*((os, "fork") if lacking == "a process" else (socket, "socketpair")), refuse)
    (place,) = supervisor._places
    for failures in (1, 2):
        assert supervisor._start(place) is None
        assert (place.pid, place.failures) == (0, failures)
        assert time.monotonic() < place.due


def test_who_cannot_be_turned_away_does_not_keep_the_processor_busy(supervisor: Supervisor) -> None:
    """Where there is no room for another file, what waits on the socket stays ready, and is tried again in peace."""
    supervisor._listener.listen()
    supervisor._turn_away(True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(supervisor._listener.getsockname()):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            began, rounds = time.monotonic(), 0
            while time.monotonic() - began < 0.5:
                supervisor._wait()
                rounds += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rounds < 20


@pytest.mark.parametrize("number", [signal.SIGKILL, max(signal.valid_signals()) - 5])
def test_whatever_signal_ends_a_worker_it_is_replaced(
    supervisor: Supervisor, process: subprocess.Popen[bytes], number: int
) -> None:
    """Also one that has no name."""
    (place,) = supervisor._places
    place.pid, place.is_serving = process.pid, True
    process.send_signal(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    supervisor._reap(place)
    assert (place.pid, place.is_serving) == (0, False)


def test_the_end_is_waited_for_no_longer_than_it_may_take(supervisor: Supervisor) -> None:
    """A worker that is stopped wakes nobody up, and the 15 s would be over when it is killed."""
    began = time.monotonic()
    supervisor._end_by = began + 0.2
    supervisor._wait()
    assert time.monotonic() - began < 0.9


def test_what_the_reader_of_the_log_had_no_room_for_is_written_soon() -> None:
    """A worker's end is told when the pipe has room again, not with the next line, which may be days away."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    log = Stdout(writing, lambda lines: b"")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(listener, 1, log.flush)
        log.write(b"worker 1 has ended\n")
        os.read(reading, 1 << 20)
        supervisor._tick()
        supervisor._close()
    os.set_blocking(reading, False)
    assert os.read(reading, 4096) == b"worker 1 has ended\n"
    os.close(reading)
    os.close(writing)
