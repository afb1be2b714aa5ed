"""Memory that processes share, whole at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.observability import shared_memory
from gateway.observability.shared_memory import Slot


def test_a_slot_holds_what_was_written_last() -> None:
    """However long it is; and nothing before the first time."""
    slot = Slot()
    assert slot.read() == b""
    for content in (b"one", b"a longer one" * 10_000, b"", b"short"):
        slot.write(content)
        assert slot.read() == content


def test_a_version_that_was_not_written_to_its_end_does_not_count() -> None:
    """A writer that is killed leaves the version before."""
    slot = Slot()
    slot.write(b"first")
    slot.write(b"whole")
    torn = shared_memory._HEAD.pack(3, 5, 0) + b"tor"
    os.pwrite(slot._fd, torn, 3 % 2 * shared_memory._HALF_BYTES)
    assert slot.read() == b"whole"
    slot.write(b"next")
    assert slot.read() == b"next"


def test_a_reader_sees_whole_versions_only() -> None:
    """Read while another thread writes: what is found is one that was written."""
    slot = Slot()
    contents = [bytes([letter]) * (1000 * letter) for letter in b"abcdef"]
    slot.write(contents[0])
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            for content in contents:
                slot.write(content)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(300):
            assert slot.read() in {*contents, b""}
    finally:
        is_over.set()
        writing.join()


FORKED = """
import os, signal
from gateway.observability.shared_memory import Slot

slot = Slot()
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    slot.write(b"from the child")
    os.write(tell, b"x")
    signal.pause()
os.read(ready, 1)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(slot.read().decode())
"""


def test_a_slot_is_shared_with_a_process_that_is_forked_and_survives_its_kill() -> None:
    """What the child has written last is there."""
    # In a process without threads, as the supervisor is.
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "from the child\n"


@pytest.mark.parametrize("has_memfd", [True, False])
def test_its_memory_has_no_name(monkeypatch: pytest.MonkeyPatch, *, has_memfd: bool) -> None:
    """Neither here nor where there is no memfd: nobody can remove it."""
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    slot = Slot()
    slot.write(b"x")
    assert os.fstat(slot._fd).st_nlink == 0
    assert slot.read() == b"x"


LIMITED = """
import resource
from gateway.observability.shared_memory import Slot

resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
slot = Slot()
for content in (b"first", b"second"):
    slot.write(content)
    print(slot.read().decode())
"""


def test_a_limit_of_the_size_of_files_leaves_room_for_it() -> None:
    """``ulimit -f``: the kernel takes memory without a name for a file."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "first\nsecond\n"
