"""The file system that forgets is honest: what was synced is there after a cut, and what was not may not be."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.power.machine import Machine, NoFuse, machine

OLD, NEW = b"o" * 16384, b"n" * 16384


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as one:
        yield one


def after(computer: Machine) -> Path:
    """The disk after a cut that keeps only what it must, mounted again."""
    computer.cut(1, manner="nothing")
    computer.switch_on()
    return computer.path


def names(path: Path) -> list[str]:
    """What is in the folder."""
    return sorted(entry.name for entry in path.iterdir())


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def stored(path: Path, content: bytes = OLD) -> Path:
    """A file whose content and name are synced."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return path


def test_what_was_not_synced_is_lost(computer: Machine) -> None:
    path = stored(computer.path / "file")
    path.write_bytes(NEW)
    assert path.read_bytes() == NEW
    assert (after(computer) / "file").read_bytes() == OLD


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_what_was_synced_is_kept(computer: Machine, sync: Callable[[int], None]) -> None:
    with stored(computer.path / "file").open("r+b", buffering=0) as file:
        file.write(NEW * 2)
        sync(file.fileno())
        file.write(b"after it")
    assert (after(computer) / "file").read_bytes() == NEW * 2


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_what_is_written_to_a_file_that_syncs_by_itself_is_kept(computer: Machine, flag: int) -> None:
    file = os.open(stored(computer.path / "file"), os.O_WRONLY | flag)
    os.write(file, NEW)
    os.close(file)
    assert (after(computer) / "file").read_bytes() == NEW


def test_a_new_name_is_lost_until_its_folder_is_synced(computer: Machine) -> None:
    """Though the file was synced itself."""
    stored(computer.path / "kept")
    with (computer.path / "lost").open("wb") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
    assert names(after(computer)) == ["kept"]


def test_a_new_folder_is_lost_with_all_that_is_in_it_until_its_parent_is_synced(computer: Machine) -> None:
    (computer.path / "kept").mkdir()
    sync_folder(computer.path)
    (computer.path / "lost").mkdir()
    for name in ("kept", "lost"):
        stored(computer.path / name / "file")
    path = after(computer)
    assert (names(path), names(path / "kept")) == (["kept"], ["file"])


def test_a_rename_is_lost_until_the_folder_is_synced(computer: Machine) -> None:
    stored(computer.path / "file")
    stored(computer.path / "other", NEW).rename(computer.path / "file")
    path = after(computer)
    assert (path / "file").read_bytes() == OLD
    (path / "other").rename(path / "file")
    sync_folder(path)
    assert (after(computer) / "file").read_bytes() == NEW
    assert names(path) == ["file"]


def test_a_rename_between_folders_is_never_half_done(computer: Machine) -> None:
    """Nor does the sync of one of them bring back what was moved out of the other."""
    for name in ("from", "to"):
        (computer.path / name).mkdir()
    sync_folder(computer.path)
    (computer.path / "from" / "file").write_bytes(NEW)
    (computer.path / "from" / "file").rename(computer.path / "to" / "file")
    sync_folder(computer.path / "to")
    sync_folder(computer.path / "from")
    path = after(computer)
    assert (names(path / "from"), names(path / "to")) == ([], ["file"])


def test_a_deletion_is_lost_until_the_folder_is_synced(computer: Machine) -> None:
    stored(computer.path / "file").unlink()
    assert names(computer.path) == []
    path = after(computer)
    assert (path / "file").read_bytes() == OLD
    (path / "file").unlink()
    sync_folder(path)
    assert names(after(computer)) == []


def test_a_truncation_is_lost_until_the_file_is_synced(computer: Machine) -> None:
    path = stored(computer.path / "file")
    os.truncate(path, 10)
    with (after(computer) / "file").open("r+b") as file:
        assert len(file.read()) == len(OLD)
        file.truncate(10)
        os.fsync(file.fileno())
    assert (after(computer) / "file").read_bytes() == OLD[:10]


def test_a_deleted_file_is_used_on_as_long_as_it_is_open(computer: Machine) -> None:
    with (computer.path / "file").open("w+b", buffering=0) as file:
        (computer.path / "file").unlink()
        file.write(NEW)
        file.truncate(10)
        os.fsync(file.fileno())
        file.seek(0)
        assert (file.read(), names(computer.path)) == (NEW[:10], [])


def test_what_was_allocated_reads_as_zeros(computer: Machine) -> None:
    with (computer.path / "file").open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 8192)
        assert file.read() == bytes(8192)


def test_after_a_sync_of_everything_all_is_kept(computer: Machine) -> None:
    (computer.path / "file").write_bytes(NEW)
    computer.sync()
    assert (after(computer) / "file").read_bytes() == NEW


def test_a_disk_that_is_switched_off_in_good_order_keeps_everything(computer: Machine) -> None:
    (computer.path / "folder").mkdir()
    (computer.path / "folder" / "file").write_bytes(NEW)
    computer.switch_off()
    computer.switch_on()
    assert (computer.path / "folder" / "file").read_bytes() == NEW


def test_from_the_cut_on_no_operation_returns(computer: Machine) -> None:
    """So a program that lives on for a moment does nothing with an error that no power cut gives."""
    path = stored(computer.path / "file")
    program = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY)\nwhile True: os.write(f, b'x'); print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        computer.cut(1, [writer.pid], manner="nothing")
        writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    computer.switch_on()
    assert path.read_bytes() == OLD


def test_a_cut_comes_after_so_many_steps(computer: Machine) -> None:
    """In the midst of what a program writes, and not only between its transactions."""
    with stored(computer.path / "file", b"").open("r+b", buffering=0) as file:
        cut = threading.Thread(target=computer.cut, args=[1], kwargs={"manner": "everything", "steps": 3})
        cut.start()
        with contextlib.suppress(OSError):
            while True:
                file.write(b"x")
                time.sleep(0.05)
        cut.join()
    computer.switch_on()
    assert len((computer.path / "file").read_bytes()) >= 3


def test_a_file_system_may_keep_the_name_with_the_file(tmp_path: Path) -> None:
    """As ext4, XFS and Btrfs do beyond what POSIX asks: the names of new folders that lead there, too."""
    with machine(tmp_path, names_too=True) as computer:
        (computer.path / "folder").mkdir()
        for name in ("synced", "other"):
            (computer.path / "folder" / name).write_bytes(NEW)
        with (computer.path / "folder" / "synced").open("ab") as file:
            os.fsync(file.fileno())
        assert (after(computer) / "folder" / "synced").read_bytes() == NEW


def test_memory_is_shared_between_processes(computer: Machine) -> None:
    """As SQLite needs it for the index of its log."""
    path = stored(computer.path / "file")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        program = "import mmap, sys; f = open(sys.argv[1], 'r+b'); mmap.mmap(f.fileno(), 4096)[7:10] = b'abc'"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        assert memory[7:10] == b"abc"


@pytest.mark.parametrize(("synchronous", "kept"), [("FULL", 20), ("NORMAL", 0), ("OFF", 0)])
def test_sqlite_keeps_what_it_promises_and_no_more(computer: Machine, synchronous: str, kept: int) -> None:
    """Each commit with synchronous = FULL; without, what came since the last checkpoint is lost."""
    path = computer.path / "test.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (number INTEGER)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        for number in range(20):
            connection.execute("INSERT INTO numbers VALUES (?)", [number])
        computer.cut(1, manner="nothing")
    computer.switch_on()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (kept,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_where_nothing_can_be_mounted_tests_are_skipped_but_not_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install-fuse"), machine(tmp_path):
        pass
    monkeypatch.setenv("CI", "true")
    with pytest.raises(NoFuse, match="install-fuse"), machine(tmp_path):
        pass
