"""The disk as a file system of the kernel's (FUSE): ``python -m tests.power.filesystem PLATTER MOUNTPOINT ...``.

It obeys commands on its standard input, and answers each with a line of JSON:

- ``sync`` keeps everything so far, as the kernel does with what is half a minute old;
- ``close`` keeps everything, writes it to the platter and ends, as an unmount does;
- ``freeze N``: after so many more writes and syncs, or after a second in which there are not so many, no operation
  returns until the process ends, and with it the mount: no program is told of an error, which a cut does not give;
- ``cut SEED [MANNER]`` writes what survives to the platter and tells the toll.

At the end of the input it ends without a word. The room is what it reports, and no bound.

The kernel holds no write back (no writeback cache), so what a program wrote is here as soon as its call returns, in the
pieces in which it wrote it. Files are read through the page cache (no direct_io): without it SQLite could not share its
``-shm`` between processes, which maps it into their memory.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import mfusepy  # type: ignore[import-untyped]

from tests.power.cut import cut
from tests.power.disk import Disk, File, Folder, Node, Resize, Write
from tests.power.platter import load, save

_BLOCK_BYTES = 4096
_FREEZE_SECONDS = 1.0


class FileSystem(mfusepy.Operations):  # type: ignore[misc]  # The bindings have no types.
    """The operations, one at a time. Open files and folders go by handle, so that a deleted one can be used on."""

    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self, disk: Disk, room_bytes: int, *, names_too: bool) -> None:
        self.disk = disk
        self.turn = threading.Lock()
        self.is_off = False
        self.is_cut = threading.Event()
        self.steps_left: int | None = None
        self._handles: dict[int, tuple[Node, bool]] = {}
        self._numbers = itertools.count(1)
        self._room_bytes = room_bytes
        self._names_too = names_too

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        """What stat says."""
        node = self._at(path, fh)
        is_folder = isinstance(node, Folder)
        size = len(node.content) if isinstance(node, File) else 0
        return {
            "st_ino": node.number,
            "st_mode": node.mode | _kind(node),
            "st_nlink": 2 if is_folder else 1,
            "st_size": size,
            "st_blocks": -(-size // 512),
            "st_blksize": _BLOCK_BYTES,
            **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), node.changed_ns),
        }

    def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, int], int]]:
        """The names in a folder; who lists one passes over an entry without a number."""
        folder = self._at(path, fh)
        assert isinstance(folder, Folder)
        entries = {".": folder, "..": folder, **folder.entries}
        return [(name, {"st_ino": node.number, "st_mode": _kind(node)}, 0) for name, node in entries.items()]

    def mkdir(self, path: str, mode: int) -> None:
        """A folder, whose name is not synced yet."""
        self.disk.create(path, Folder(mode & 0o7777))

    def create(self, path: str, mode: int, flags: int) -> int:
        """A file, whose name is not synced yet."""
        file = File(mode & 0o7777)
        self.disk.create(path, file)
        return self._handle(file, flags)

    def unlink(self, path: str) -> None:
        """Take a file's name away."""
        self.disk.delete(path)

    def rmdir(self, path: str) -> None:
        """Take an empty folder's name away."""
        self.disk.delete(path)

    def rename(self, old: str, new: str) -> None:
        """In one step, whether another had the new name or not."""
        self.disk.rename(old, new)

    def open(self, path: str, flags: int) -> int:
        """A handle on a file."""
        file = self.disk.file(path)
        if flags & os.O_TRUNC:
            file.change(Resize(0))
        return self._handle(file, flags)

    def opendir(self, path: str) -> int:
        """A handle on a folder."""
        return self._handle(self.disk.folder(path), 0)

    def release(self, _path: str | None, fh: int) -> None:
        """Closing a file syncs nothing."""
        del self._handles[fh]

    releasedir = release

    def read(self, _path: str | None, size: int, offset: int, fh: int) -> bytes:
        """What programs see."""
        return bytes(self._file(fh).content[offset : offset + size])

    def write(self, _path: str | None, data: bytes, offset: int, fh: int) -> int:
        """Nothing is synced yet, unless the file was opened with O_SYNC or O_DSYNC."""
        file = self._file(fh)
        file.change(Write(offset, data))
        if self._handles[fh][1]:
            file.sync()
        return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        """The size, not synced yet."""
        file = self._at(path, fh)
        assert isinstance(file, File)
        file.change(Resize(length))

    def fallocate(self, _path: str | None, mode: int, offset: int, size: int, fh: int) -> None:
        """Growth by zeros, not synced yet; nothing else that it can mean."""
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only growth")
        file = self._file(fh)
        if offset + size > len(file.content):
            file.change(Resize(offset + size))

    def fsync(self, _path: str | None, _datasync: int, fh: int) -> None:
        """What was written to the file outlives a cut."""
        file = self._file(fh)
        file.sync()
        if self._names_too:
            self.disk.sync_names_of(file)

    def fsyncdir(self, _path: str | None, _datasync: int, fh: int) -> None:
        """The names in the folder outlive a cut."""
        folder, _ = self._handles[fh]
        assert isinstance(folder, Folder)
        self.disk.sync(folder)

    def chmod(self, path: str, mode: int) -> None:
        """Kept at once."""
        self.disk.find(path).mode = mode & 0o7777

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Everything is root's."""

    def utimens(self, path: str, times: object = None) -> None:
        """Times are its own."""

    def statfs(self, _path: str) -> dict[str, int]:
        """An empty disk."""
        blocks = self._room_bytes // _BLOCK_BYTES
        sizes = {"f_bsize": _BLOCK_BYTES, "f_frsize": _BLOCK_BYTES, "f_namemax": 255}
        return sizes | dict.fromkeys(("f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree"), blocks)

    def note(self, operation: str) -> None:
        """Count what changes the disk, for who waits to cut it."""
        if self.steps_left is None or operation not in {"write", "fsync"}:
            return
        if self.steps_left <= 0:
            self.is_cut.set()
        self.steps_left -= 1

    def _at(self, path: str | None, fh: int | None) -> Node:
        if fh is not None:
            return self._handles[fh][0]
        assert path is not None
        return self.disk.find(path)

    def _file(self, fh: int) -> File:
        file, _ = self._handles[fh]
        assert isinstance(file, File)
        return file

    def _handle(self, node: Node, flags: int) -> int:
        number = next(self._numbers)
        self._handles[number] = node, bool(flags & (os.O_SYNC | os.O_DSYNC))
        return number


def _kind(node: Node) -> int:
    return stat.S_IFDIR if isinstance(node, Folder) else stat.S_IFREG


class Mount(mfusepy.FUSE):  # type: ignore[misc]
    """The bindings between the kernel and the operations; returns when it is no longer mounted."""

    def __init__(self, file_system: FileSystem, mountpoint: str) -> None:
        self._file_system = file_system
        super().__init__(
            file_system,
            mountpoint,
            foreground=True,
            nothreads=True,
            default_permissions=False,
            fsname="power",
            # Of the kernel's caches nothing need ever be asked again: nobody else changes the files.
            kernel_cache=True,
            attr_timeout=3600,
            entry_timeout=3600,
            use_ino=True,
            # A deleted file is gone, instead of being renamed until it is closed.
            hard_remove=True,
        )

    def _wrapper(self, function: Any, *arguments: Any, **named: Any) -> int:
        if function.__name__ == "init":
            return int(super()._wrapper(function, *arguments, **named))
        with self._file_system.turn:
            if self._file_system.is_off:
                return -errno.EIO
            self._file_system.note(function.__name__)
            if not self._file_system.is_cut.is_set():
                return int(super()._wrapper(function, *arguments, **named))
        threading.Event().wait()
        raise AssertionError("nothing ends this but the process")

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
        """As in the bindings, which drop the handle: of an open file the path may not be told."""
        self.operations.truncate(path and path.decode(), length, fip.contents.fh if fip else None)
        return 0


def obey(file_system: FileSystem, platter: Path, mountpoint: str) -> None:
    """Carry out the commands; after the last one end the process."""
    for line in sys.stdin:
        command, *words = line.split()
        answer: dict[str, Any] = {}
        with file_system.turn:
            if command == "freeze":
                file_system.steps_left = int(words[0])
            elif command == "cut":
                answer = cut(file_system.disk, int(words[0]), " ".join(words[1:]) or None).as_dict()
            else:
                file_system.disk.sync_all()
                file_system.is_off = command == "close"
            if command in {"cut", "close"}:
                save(file_system.disk, platter)
        if command == "freeze":
            file_system.is_cut.wait(_FREEZE_SECONDS)
            with file_system.turn:
                file_system.is_cut.set()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if command == "close":
            break
    if not file_system.is_cut.is_set():
        file_system.is_off = True
        subprocess.run(["umount", "--lazy", mountpoint], stderr=subprocess.DEVNULL, check=False)
    os._exit(0)  # The other thread may be in the kernel for as long as anybody has a file open.


def main() -> None:
    """Serve until told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platter", type=Path)
    parser.add_argument("mountpoint")
    parser.add_argument("--room-mib", type=int, default=65536)
    parser.add_argument(
        "--names-too", action="store_true", help="fsync of a new file keeps its name, as in ext4"
    )
    given = parser.parse_args()
    file_system = FileSystem(load(given.platter), given.room_mib << 20, names_too=given.names_too)
    threading.Thread(target=obey, args=[file_system, given.platter, given.mountpoint], daemon=True).start()
    Mount(file_system, given.mountpoint)


if __name__ == "__main__":
    main()
