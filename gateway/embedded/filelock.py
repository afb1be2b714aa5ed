"""A lock between the processes of one machine that is gone when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """An advisory lock (flock) on a file of its own, which is created and never removed."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        self._held = False

    def take(self) -> bool:
        """Take the lock if it is free; True when it is held now."""
        if not self._held:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._held = True
        return True

    def release(self) -> None:
        """Let others take it."""
        if self._held:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._held = False

    def close(self) -> None:
        """Release it, and do not use it again."""
        os.close(self._descriptor)
        self._held = False
