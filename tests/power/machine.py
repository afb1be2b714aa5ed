"""A machine whose power can be cut: a folder for its programs' files, mounted while it is on."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until

_REPOSITORY = Path(__file__).parents[2]


class NoFuse(Exception):
    """This machine mounts no file systems of ours. The message says why, and what would help."""


class Machine:
    """``path`` is its disk as programs see it, and ``platter`` what is on it while the power is off."""

    def __init__(self, directory: Path, room_mib: int = 65536, *, names_too: bool = False) -> None:
        if lacking := what_is_lacking():
            raise NoFuse(lacking)
        self.path = directory / "disk"
        self.platter = directory / "platter"
        self._options = [f"--room-mib={room_mib}", *(["--names-too"] if names_too else [])]
        self._log = directory / "file-system.log"
        self._file_system: subprocess.Popen[str] | None = None
        self.path.mkdir()
        self.platter.mkdir()

    def switch_on(self) -> None:
        """Mount the disk."""
        with self._log.open("ab") as log:
            self._file_system = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.power.filesystem"),
                    *(str(self.platter), str(self.path), *self._options),
                ],
                cwd=_REPOSITORY,
                # Where both are installed, the bindings would take version 2.
                env={**os.environ, "FUSE_LIBRARY_NAME": "fuse3"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        until(self._is_mounted, f"the mount (see {self._log})")

    def cut(
        self, seed: int, pids: Iterable[int] = (), *, manner: str | None = None, steps: int = 0
    ) -> dict[str, Any]:
        """Cut the power: from one moment on nothing is written any more, and these processes go no further.

        The moment is after so many more ``steps`` (writes and syncs), where there is load, and a second later where
        there is none. Returns the toll: what became of what was not synced.
        """
        self._tell(f"freeze {steps}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        toll = self._tell(f"cut {seed} {manner or ''}")
        # Only now does what they wait for come to an end.
        self._leave()
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        return toll

    def sync(self) -> None:
        """Keep everything that was written so far."""
        self._tell("sync")

    def switch_off(self) -> None:
        """Unmount the disk in good order: everything is kept. Its programs have ended before."""
        if self._file_system is not None and self._file_system.poll() is None:
            self._tell("close")
            self._leave()

    def _is_mounted(self) -> bool:
        assert self._file_system is not None
        if self._file_system.poll() is not None:
            raise NoFuse(f"the file system could not be mounted: {self._log.read_text()}")
        return self.path.is_mount()

    def _tell(self, command: str) -> dict[str, Any]:
        assert self._file_system is not None
        assert self._file_system.stdin is not None
        assert self._file_system.stdout is not None
        self._file_system.stdin.write(f"{command}\n")
        self._file_system.stdin.flush()
        answer = self._file_system.stdout.readline()
        assert answer, f"the file system ended by itself: {self._log.read_text()}"
        found = json.loads(answer)
        assert isinstance(found, dict)
        return found

    def _leave(self) -> None:
        assert self._file_system is not None
        self._file_system.communicate()
        self._file_system = None


@contextlib.contextmanager
def machine(directory: Path, room_mib: int = 65536, *, names_too: bool = False) -> Iterator[Machine]:
    """One that is on, and whose disk is gone at the end. Where FUSE is missing the test is skipped, but never in CI."""
    try:
        one = Machine(directory, room_mib, names_too=names_too)
        one.switch_on()
    except NoFuse as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    try:
        yield one
    finally:
        one.switch_off()


def what_is_lacking() -> str | None:
    """Why nothing can be mounted here; None when it can."""
    if sys.platform != "linux":
        return "the file system that forgets is mounted with Linux's FUSE"
    if os.geteuid() != 0:
        return "the file system that forgets is mounted by root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse here: a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"
    if not ctypes.util.find_library("fuse3"):
        return "libfuse 3 is not installed: run `sh tests/power/install-fuse.sh`"
    return None
