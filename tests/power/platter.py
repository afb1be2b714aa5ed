"""A disk's synced state as files of the machine: what it holds while it is not mounted."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.power.disk import Disk, File, Folder


def load(path: Path) -> Disk:
    """The disk that this folder holds; everything on it is synced."""
    return Disk(_load(path))


def save(disk: Disk, path: Path) -> None:
    """Write what is synced on the disk into this folder, and nothing else."""
    shutil.rmtree(path)
    _save(disk.root, path)


def _load(path: Path) -> Folder:
    folder = Folder(path.stat().st_mode & 0o7777)
    for child in path.iterdir():
        if child.is_dir():
            folder.entries[child.name] = _load(child)
        else:
            content = child.read_bytes()
            mode = child.stat().st_mode & 0o7777
            folder.entries[child.name] = File(mode, bytearray(content), bytearray(content))
    folder.synced = dict(folder.entries)
    return folder


def _save(folder: Folder, path: Path) -> None:
    path.mkdir(mode=0o700)
    for name, node in folder.synced.items():
        if isinstance(node, Folder):
            _save(node, path / name)
        else:
            (path / name).write_bytes(node.synced)
            (path / name).chmod(node.mode)
    path.chmod(folder.mode)
