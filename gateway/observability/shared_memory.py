"""Memory that processes share: written by one at a time, and read by any at any moment.

It has no name, and forked processes inherit it. So nothing is left behind by processes that are killed, and there is no
file that a cleaner of temporary folders could take.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib

_HEAD = struct.Struct("<QII")  # number of the version, length and checksum of its content
# More than is ever counted. A limit of the size of files (ulimit -f) holds here, too, and is seldom as low.
_HALF_BYTES = 1 << 24
# A reader that is overtaken while it reads both versions reads them again.
_ATTEMPTS = 3


class Slot:
    """Memory for one content, written by one process at a time and read by any.

    A version is written beside the one before it. So a writer may be killed at any moment, and a reader may come at any
    moment: there is always one that is whole.
    """

    def __init__(self) -> None:
        self._fd = _without_a_name()

    def write(self, content: bytes) -> None:
        """Replace the content."""
        version = self._newest()[0] + 1
        checksum = zlib.crc32(content, version & 0xFFFFFFFF)
        head = _HEAD.pack(version, len(content), checksum)
        os.pwrite(self._fd, head + content, version % 2 * _HALF_BYTES)

    def read(self) -> bytes:
        """The newest content that is whole; empty before the first."""
        for _ in range(_ATTEMPTS):
            version, content = self._newest()
            if version:
                return content
        return b""

    def _newest(self) -> tuple[int, bytes]:
        return max(self._version(half) for half in (0, 1))

    def _version(self, half: int) -> tuple[int, bytes]:
        head = os.pread(self._fd, _HEAD.size, half * _HALF_BYTES)
        if len(head) == _HEAD.size:
            version, length, checksum = _HEAD.unpack(head)
            content = os.pread(self._fd, length, half * _HALF_BYTES + _HEAD.size)
            if len(content) == length and zlib.crc32(content, version & 0xFFFFFFFF) == checksum:
                return version, content
        return 0, b""


def _without_a_name() -> int:
    """A descriptor for as long as the process lives, and those that are forked from it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sms-gateway-metrics")
    with tempfile.TemporaryFile() as file:  # Its name is gone before anybody writes to it.
        return os.dup(file.fileno())
