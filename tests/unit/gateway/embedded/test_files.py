"""Whether the files of a database are those that were opened, and who may open them anew."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.failures import FileGone, NotDone
from gateway.embedded.files import identify, is_log_unused, keep_log, settle


def opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    """The database at ``path``, with one commit in its log."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS things (name)")
    connection.execute("INSERT INTO things VALUES ('kept')")
    return contextlib.closing(connection)


def things(path: Path) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name FROM things").fetchall()


def beside(path: Path, name: str) -> Path:
    return path.with_name(path.name + name)


def test_files_are_what_they_were_until_one_is_taken_away(path: Path) -> None:
    with opened(path) as connection:
        files = identify(path)
        connection.execute("INSERT INTO things VALUES ('more')")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        identify(path).demand(files, path)
        for name in ("-shm", "-wal"):
            beside(path, name).unlink()
            with pytest.raises(FileGone, match=f"gateway.db{name} was removed or replaced"):
                identify(path).demand(files, path)
        path.rename(path.with_name("away"))
        with pytest.raises(FileGone, match="the file is not there"):
            identify(path)
        path.touch()
        with pytest.raises(FileGone, match="the file was replaced"):
            identify(path).demand(files, path)


def test_a_log_is_unused_when_it_holds_nothing(path: Path) -> None:
    with opened(path):
        assert not is_log_unused(path)
        beside(path, "-wal").unlink()
        assert is_log_unused(path)
        beside(path, "-wal").touch()
        assert is_log_unused(path)


@pytest.mark.parametrize("name", ["-wal", "-shm"])
def test_nobody_opens_beside_who_works_with_what_is_gone(path: Path, name: str) -> None:
    """In this process and in others. When it has let go, SQLite itself has saved what it had."""
    with opened(path):
        settle(path)
        beside(path, name).unlink()
        with pytest.raises(FileGone, match=f"{name} was removed or replaced while it was in use"):
            settle(path)
        assert not beside(path, name).exists()
    settle(path)
    assert things(path) == [("kept",)]


@pytest.mark.parametrize("name", ["-wal", "-shm"])
def test_what_a_killed_process_has_left_is_made_use_of(path: Path, name: str) -> None:
    """The log alone holds all that it held; the index alone holds nothing, and must keep nobody out."""
    script = (
        "import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE things (name)');"
        " c.execute('PRAGMA wal_checkpoint'); c.execute(\"INSERT INTO things VALUES ('kept')\");"
        " os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert beside(path, name).exists()
    beside(path, name).unlink()
    settle(path)
    assert things(path) == ([("kept",)] if name == "-shm" else [])


@pytest.mark.parametrize("is_emptied", [True, False])
def test_no_new_file_is_made_beside_a_log_that_another_has_left(path: Path, *, is_emptied: bool) -> None:
    """SQLite would remove the log, and with it what whoever moved the file away believes to be in it."""
    with opened(path):
        keep_log(path)
        away = path.rename(path.with_name("away.db"))
        if is_emptied:
            path.touch()
        with pytest.raises(FileGone, match="-wal, which holds the last that was written to it"):
            keep_log(path)
        with pytest.raises(NotDone, match="put the file back, or move that away as well"):
            Database(path).prepare()
        away.rename(path)
        keep_log(path)
    assert things(path) == [("kept",)]


def test_who_is_just_being_let_in_is_waited_for(path: Path) -> None:
    with opened(path) as connection:
        beside(path, "-shm").unlink()
        leaving = threading.Timer(0.1, connection.close)
        leaving.start()
        settle(path, 30)
        leaving.join()
