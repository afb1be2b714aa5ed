"""Lines to stdout, whose reader nobody waits for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.observability import stdout
from gateway.observability.stdout import Stdout

MORE_THAN_A_PIPE_HOLDS = 3000
LINE = b"x" * 99 + b"\n"


class Pipe:
    """A pipe, and the writer to it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.out = Stdout(self.writing, lambda lines: b"missing %d\n" % lines)

    def read(self) -> bytes:
        """All that lies in it."""
        os.set_blocking(self.reading, False)
        found = b""
        while True:
            try:
                chunk = os.read(self.reading, 65536)
            except BlockingIOError:
                return found
            if not chunk:
                return found
            found += chunk

    def read_all(self) -> bytes:
        """All that is written, until nothing is left to write."""
        found = b""
        while not self.out.flush():
            found += self.read()
        return found + self.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    found = Pipe()
    yield found
    for descriptor in (found.reading, found.writing):
        try:
            os.close(descriptor)
        except OSError:  # The test has closed it.
            continue


def test_without_a_loop_a_line_is_written_at_once(pipe: Pipe) -> None:
    """Commands and threads need no turn to end."""
    pipe.out.write(b"one\n")
    assert pipe.read() == b"one\n"


async def test_the_lines_of_one_turn_leave_together(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in one write at its end."""
    writes: list[bytes] = []
    write = os.write

    def recorded(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", recorded)
    pipe.out.write(b"one\n")
    pipe.out.write(b"two\n")
    assert writes == []
    await asyncio.sleep(0)
    assert writes == [b"one\ntwo\n"]
    pipe.out.write(b"three\n")
    await asyncio.sleep(0)
    assert pipe.read() == b"one\ntwo\nthree\n"


async def test_a_reader_that_stalls_stops_nobody(pipe: Pipe) -> None:
    """What the pipe has no room for waits in memory, and follows when there is room again."""
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        pipe.out.write(LINE)
        await asyncio.sleep(0)
    assert pipe.out.dropped == 0
    found = pipe.read()
    assert len(found) < MORE_THAN_A_PIPE_HOLDS * len(LINE)
    async with asyncio.timeout(5):
        while len(found) < MORE_THAN_A_PIPE_HOLDS * len(LINE):
            await asyncio.sleep(0.01)
            found += pipe.read()
    assert found == LINE * MORE_THAN_A_PIPE_HOLDS


def test_what_is_too_much_to_keep_is_dropped_and_told(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded; once the reader is back a line says how many are missing, and once only."""
    monkeypatch.setattr(stdout, "_MOST_BYTES", 10 * len(LINE))
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        pipe.out.write(LINE)
    dropped = pipe.out.dropped
    assert dropped > 0
    lines = pipe.read_all().splitlines()
    assert len(lines) == MORE_THAN_A_PIPE_HOLDS - dropped + 1
    assert lines.count(b"missing %d" % dropped) == 1
    pipe.out.write(b"later\n")
    assert pipe.read() == b"later\n"


async def test_what_waits_half_written_counts_against_the_bound(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was gathered to be written lies in memory like what was not."""
    monkeypatch.setattr(stdout, "_MOST_BYTES", MORE_THAN_A_PIPE_HOLDS * len(LINE))
    for _ in range(2):
        for _ in range(MORE_THAN_A_PIPE_HOLDS):
            pipe.out.write(LINE)
        await asyncio.sleep(0)
    assert pipe.out.dropped > 0
    assert pipe.out._bytes + len(pipe.out._rest) <= (MORE_THAN_A_PIPE_HOLDS + 1) * len(LINE)


def test_a_reader_that_is_gone_is_no_failure(pipe: Pipe) -> None:
    """Its lines are counted as dropped, and nothing is raised."""
    os.close(pipe.reading)
    pipe.out.write(b"one\n")
    pipe.out.write(b"two\n")
    assert pipe.out.dropped == 2


@pytest.mark.parametrize("end", ["reading", "writing"])
def test_a_descriptor_that_is_closed_takes_no_lines_and_its_number_is_nobody_elses(
    tmp_path: Path, end: str
) -> None:
    """They are counted as dropped, whichever end of the pipe gets the number at first."""
    lower, fd = os.pipe()
    os.close(fd)
    if end == "writing":
        os.close(lower)
    out = Stdout(fd, lambda lines: b"missing %d\n" % lines)
    path = tmp_path / "database"
    with path.open("wb"):
        out.write(b"one\n")
        out.write(b"two\n")
        assert out.flush(1)
    assert path.read_bytes() == b""
    assert out.dropped == 2
    assert os.get_inheritable(fd)
    os.close(fd)
    if end == "reading":
        os.close(lower)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_what_is_opened_gets_no_number_of_a_standard_descriptor(closed: tuple[int, ...]) -> None:
    """Whichever of them are closed when a process starts, as by ``2>&-``."""
    program = (
        "import os\n"
        "from gateway.observability import stdout\n"
        f"for fd in {closed}: os.close(fd)\n"
        "stdout.hold_standard_descriptors()\n"
        "opened = os.open(os.devnull, os.O_RDONLY)\n"
        "os._exit(0 if opened > 2 and all(map(os.get_inheritable, (0, 1, 2))) else 1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[4], check=False)
    assert ended.returncode == 0


def test_the_end_waits_a_moment_for_the_reader(pipe: Pipe) -> None:
    """What a slow reader takes in that time is not lost."""
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        pipe.out.write(LINE)
    found = []

    def read_late() -> None:
        time.sleep(0.05)
        found.append(os.read(pipe.reading, 10**6))
        while sum(map(len, found)) < MORE_THAN_A_PIPE_HOLDS * len(LINE):
            found.append(os.read(pipe.reading, 10**6))

    reader = threading.Thread(target=read_late)
    reader.start()
    assert pipe.out.flush(10)
    reader.join()
    assert b"".join(found) == LINE * MORE_THAN_A_PIPE_HOLDS


def test_lines_of_threads_are_whole(pipe: Pipe) -> None:
    """However many write at once."""

    def write(name: bytes) -> None:
        for _ in range(100):
            pipe.out.write(name * 50 + b"\n")

    threads = [threading.Thread(target=write, args=[name]) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pipe.read_all().splitlines()
    assert sorted(found) == sorted([b"a" * 50, b"b" * 50, b"c" * 50] * 100)


def test_lines_stay_whole_between_those_of_others(pipe: Pipe) -> None:
    """Other workers write to the same pipe, and may get in between any two writes."""
    writes: list[bytes] = []
    write = os.write

    def recorded(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", recorded)
        with pipe.out._lock:
            pipe.out._lines = [LINE[: 60 + number] + b"\n" for number in range(40)] * 5
        assert pipe.out.flush()
    assert len(writes) > 1
    assert all(data.endswith(b"\n") for data in writes)
    assert b"".join(writes) == pipe.read()


def test_who_logs_while_it_writes_does_not_wait_for_itself(pipe: Pipe) -> None:
    """A finalizer may do so, whenever the garbage collector runs."""
    with pipe.out._lock:
        pipe.out.write(b"from within\n")
    assert pipe.read() == b"from within\n"


def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    """It has no reader to wait for."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        out = Stdout(file.fileno(), lambda _: b"")
        out.write(b"x" * 100_000 + b"\n")
    assert path.stat().st_size == 100_001
