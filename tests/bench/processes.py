"""CPU time and memory of a process and all its descendants, as Linux counts them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")

IS_LINUX = (_PROC / "self/stat").exists()
LINUX_ONLY = "CPU time and memory of other processes are read from /proc, which only Linux has"
"""Why the bench, and the tests of it, do not run elsewhere."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> list[int]:
    """The process and all its descendants: a gateway with several workers is one process with children."""
    parents = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # It has ended since.
            # The name in brackets may hold spaces and brackets of its own; the parent comes second after it.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its descendants so far, all threads, in user space and in the kernel."""
    return sum(map(_cpu_seconds, family(pid)))


def resident_bytes(pid: int) -> int:
    """Memory of the process and its descendants that is in RAM; what they share counts more than once."""
    pages = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            pages += int((_PROC / str(member) / "statm").read_text().split()[1])
    return pages * _PAGE_BYTES


def keep_on(pid: int, cores: Iterable[int]) -> None:
    """Have the process and its descendants, all threads, run on no other cores than these."""
    for member in family(pid):
        for thread in (_PROC / str(member) / "task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def all_but_one_core() -> Iterator[int]:
    """This process and its descendants leave one core alone, whose number this gives; on a single core they stay."""
    cores = os.sched_getaffinity(0)
    first, *others = sorted(cores)
    keep_on(os.getpid(), others or cores)
    try:
        yield first
    finally:
        keep_on(os.getpid(), cores)


def _cpu_seconds(pid: int) -> float:
    # The clock that clock_getcpuclockid(3) gives for another process: in nanoseconds, where /proc/PID/stat has ticks
    # of 10 ms.
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0
