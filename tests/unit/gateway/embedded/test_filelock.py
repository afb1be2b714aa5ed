"""A lock between processes, which goes with its holder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from gateway.embedded.filelock import FileLock

ROOT = Path(__file__).parents[4]


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    """Until it is released, or closed; to take it twice is to hold it once."""
    path = tmp_path / "lock"
    with contextlib.closing(FileLock(path)) as one, contextlib.closing(FileLock(path)) as other:
        assert one.take()
        assert one.take()
        assert not other.take()
        one.release()
        one.release()
        assert other.take()
        assert not one.take()
    with contextlib.closing(FileLock(path)) as next_one:
        assert next_one.take()


def test_its_file_is_its_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    FileLock(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_gone_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from gateway.embedded.filelock import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); print(lock.take(), flush=True); time.sleep(60)"
    )
    lock = FileLock(path)
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not lock.take()
        holder.kill()
    assert lock.take()
    lock.release()
    with contextlib.closing(FileLock(path)) as other:
        assert other.take()
        assert not lock.take()
    assert lock.take()
    lock.close()
