"""Tests that measure time or memory run alone, although pytest-xdist deals the tests among several processes.

Every test of the other kind holds a lock that it shares with its like; one marked ``quiet`` holds it alone. Who waits
to be alone closes the gate, so that nobody else enters before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# Files that are there anyway: so nothing is left behind, and two runs of one checkout keep quiet for each other.
_GATE = Path(__file__)
_ROOM = Path(__file__).with_name("waiting.py")


@contextlib.contextmanager
def among_others() -> Iterator[None]:
    """Inside the ``with`` nobody is ``alone``."""
    with contextlib.ExitStack() as room:
        with _locked(_GATE, fcntl.LOCK_SH):
            room.enter_context(_locked(_ROOM, fcntl.LOCK_SH))
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the ``with`` no other process is ``among_others`` or ``alone``."""
    with _locked(_GATE, fcntl.LOCK_EX), _locked(_ROOM, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
