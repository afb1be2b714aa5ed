"""The files that a database is made of, and whether they are still those that were opened.

SQLite goes on writing to a file that was removed, and says that it is done. In WAL mode there are three: the database,
its log (``-wal``), which holds the last commits, and the index of the log (``-shm``), which all processes share.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gateway.embedded.failures import FileGone, is_busy

Identity = tuple[int, int]


class Files(NamedTuple):
    """Which files a path leads to: device and inode of each, None where there is none."""

    database: Identity
    log: Identity | None
    log_index: Identity | None

    def demand(self, opened: Files, path: Path) -> None:
        """Raise ``FileGone``, with what to do, unless these are the files that were ``opened`` at ``path``."""
        if self == opened:
            return
        if self.database != opened.database:
            raise FileGone("the file was replaced")
        raise _taken_away(path, "-wal" if self.log != opened.log else "-shm")


def identify(path: Path) -> Files:
    """The files of the database at ``path``. Raises ``FileGone`` when there is no database."""
    name = os.fspath(path)
    return Files(identify_database(path), _identify(f"{name}-wal"), _identify(f"{name}-shm"))


def identify_database(path: Path) -> Identity:
    """The first of them: a third of the cost. Raises ``FileGone`` when there is none."""
    database = _identify(os.fspath(path))
    if database is None:
        raise FileGone("the file is not there")
    return database


def is_log_unused(path: Path) -> bool:
    """Whether the log that the path leads to holds nothing, or is not there."""
    try:
        return os.stat(f"{os.fspath(path)}-wal").st_size == 0  # noqa: PTH116 - as below
    except FileNotFoundError:
        return True


def keep_log(path: Path) -> None:
    """Raise ``FileGone`` where a log holds something and its database is not there, or is empty.

    Who opened the database now would make a new one, and SQLite removes the log then: with the last commits of a
    database that was only moved away.
    """
    try:
        is_there = path.stat().st_size > 0
    except FileNotFoundError:
        is_there = False
    if not is_there and not is_log_unused(path):
        raise FileGone(
            f"the file is not there, but {path.name}-wal, which holds the last that was written to it: put the file "
            "back, or move that away as well"
        )


def settle(path: Path, patience_seconds: float = 0.0) -> None:
    """See to it that who opens the database at ``path`` now has the same files as all who have it open.

    Log and index come and go together, but for a moment, which is waited for. Where only one of the two is there, the
    other was taken away: from a process that still works with it, and who opened the database now would get another
    one; or after the last process was killed, and then SQLite makes good use of what is left. Raises ``FileGone`` in
    the first case.
    """
    deadline = time.monotonic() + patience_seconds
    while (missing := _missing(path)) and not _is_nobodys(path):
        if time.monotonic() >= deadline:
            raise _taken_away(path, missing)
        time.sleep(0.005)


def _missing(path: Path) -> str | None:
    found = {name: _identify(f"{os.fspath(path)}{name}") for name in ("-wal", "-shm")}
    return next((name for name in found if found[name] is None), None) if any(found.values()) else None


def _is_nobodys(path: Path) -> bool:
    """Whether nobody has the database open; what its log still held is in it then, and both files are gone."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
        try:
            # Granted to who is alone with it.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            # Whatever else is wrong with it, who opens it will hear of.
            return not is_busy(error)
    return True


def _taken_away(path: Path, name: str) -> FileGone:
    return FileGone(
        f"{path.name}{name} was removed or replaced while it was in use: leave the files beside {path.name} alone, "
        f"and end what else has it open ('fuser {path.name}'); it is opened anew as soon as everybody has let go of it"
    )


def _identify(name: str) -> Identity | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - half the time of Path.stat, and every send asks
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
