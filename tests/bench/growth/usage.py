"""What processes use while work is done, and what they and their folders have come to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.processes import cpu_seconds


def rss_mib(pid: int) -> float:
    """The memory that a process has in use."""
    return _status(pid, "VmRSS")


def peak_rss_mib(pid: int) -> float:
    """The most that it has ever had."""
    return _status(pid, "VmHWM")


def folder_mib(folder: Path) -> float:
    """What lies in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def cpu_during(pids: Mapping[str, int], work: Callable[[], int]) -> dict[str, float]:
    """The processor time in µs that each process used for one of the things of which ``work`` did so many."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    done = max(work(), 1)
    return {name: (cpu_seconds(pid) - before[name]) * 1e6 / done for name, pid in pids.items()}


def _status(pid: int, name: str) -> float:
    for row in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if row.startswith(f"{name}:"):
            return int(row.split()[1]) / 1024
    raise LookupError(name)
