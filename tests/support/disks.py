"""Disks of a test's own, small enough to be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, mib: int) -> Iterator[Path]:
    """A file system of so many MiB at ``path``, gone at the end.

    Only Linux has tmpfs, and only root may mount one: elsewhere the test is skipped, but never in CI, which is root.
    """
    if sys.platform != "linux":
        pytest.skip("a small file system is mounted with Linux's tmpfs")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        assert os.environ.get("CI") != "true", (
            f"a small file system cannot be mounted: {mounted.stderr.strip()}"
        )
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left, as another program's file does; returns that file."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    return ballast
