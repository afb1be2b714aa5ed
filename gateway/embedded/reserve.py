"""Room on the disk that is kept in a file of its own, so that a full disk can be helped.

To delete needs room, too: SQLite writes it to its log first, and the log begins anew only when all that it holds has
been written to the file, which must grow for that. So on a disk that has no room left nothing could ever be deleted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_MOST_BYTES = 8 << 20
_PART_OF_DISK = 8


def bytes_for(path: Path) -> int:
    """How much is reserved for the database at ``path``: 8 MiB, or an eighth of a disk that is smaller than 64 MiB."""
    disk = os.statvfs(path.parent)
    return min(_MOST_BYTES, disk.f_frsize * disk.f_blocks // _PART_OF_DISK)


class Reserve:
    """The reserve of the database at ``path``, shared by all processes that use it."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}-reserve")
        self._bytes = bytes_for(path)

    def fill(self) -> bool:
        """Take as much room as there should be, if it can be had; True when it is taken."""
        with suppress(OSError):
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                if os.fstat(descriptor).st_size < self._bytes:
                    _allocate(descriptor, self._bytes)
            except OSError:
                os.ftruncate(descriptor, 0)
                raise
            finally:
                os.close(descriptor)
            return True
        return False

    def release(self) -> bool:
        """Give the room back to the disk; False when there was none to give."""
        with suppress(OSError):
            held = self.path.stat().st_size
            os.truncate(self.path, 0)
            return held > 0
        return False


def _allocate(descriptor: int, size: int) -> None:
    """Have the file system set so much room aside. Raises ``OSError`` when it has not got it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        portion = bytes(1 << 20)
        for offset in range(0, size, len(portion)):
            os.pwrite(descriptor, portion[: size - offset], offset)
