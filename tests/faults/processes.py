"""The processes of a gateway: the one that was started, and the workers that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.support.gateways import Gateway


def all_of(gateway: Gateway) -> list[int]:
    """The process ids, the first process first."""
    assert gateway.process is not None
    return [gateway.process.pid, *workers_of(gateway)]


def workers_of(gateway: Gateway) -> list[int]:
    """The process ids of what serves: of the workers, or of the only process where there are none.

    What Python may start to track resources is left out.
    """
    assert gateway.process is not None
    children = [pid for pid in _children(gateway.process.pid) if "resource_tracker" not in _command(pid)]
    return children or [gateway.process.pid]


def is_gone(pid: int) -> bool:
    """Whether the process has ended, even if nobody has asked for its exit code."""
    return _state(pid) in ("", "Z")


def is_paused(pid: int) -> bool:
    """Whether it stands still (SIGSTOP)."""
    return _state(pid) == "T"


def wait_until_gone(pids: list[int], seconds: float = 20.0) -> bool:
    """Whether all of them have ended in time: workers whose supervisor was killed finish what they have begun."""
    deadline = time.monotonic() + seconds
    while not all(map(is_gone, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pause(pids: list[int]) -> bool:
    """Stop them in their tracks (SIGSTOP); returns whether all of them stand."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while not all(map(is_paused, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def resume(pids: list[int]) -> None:
    """Let them go on (SIGCONT)."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def memory_kib(pid: int) -> int:
    """Resident memory."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return int(_ps(pid, "rss") or 0)
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def _state(pid: int) -> str:
    """One letter as ``ps`` shows it, Z and T among them; empty when there is no such process."""
    return _ps(pid, "state")[:1]


def _command(pid: int) -> str:
    return _ps(pid, "command")


def _ps(pid: int, column: str) -> str:
    done = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _children(parent: int) -> list[int]:
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in done.stdout.splitlines()]
    return [int(pid) for pid, ppid in pairs if int(ppid) == parent]
