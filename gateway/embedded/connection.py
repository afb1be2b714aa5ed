"""How the file is opened, for writing and for reading."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.embedded import reserve, schema
from gateway.embedded.failures import FileGone, NotOurs, is_busy, is_for_want_of_room
from gateway.embedded.files import Files, identify, identify_database, keep_log, settle

T = TypeVar("T")

_OPEN_SECONDS = 5.0
_READ_SECONDS = 1.0
# So soon a reader lets go of a log that was removed, which keeps its database from being opened anew.
_LOOK_AT_ALL_SECONDS = 0.1
# It brought RETURNING.
_OLDEST_SQLITE = (3, 35)
_JOURNAL_BYTES = 64 << 20
# SQLite's own default.
_CHECKPOINT_PAGES = 1000

# Others may be opening or closing it at this moment.
_SETTLE_SECONDS = 0.2


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, Files]:
    """A connection in autocommit mode with today's tables, and the files that it is on.

    Creates the directory and the file (readable by its owner only) where they are missing. Several processes may do so
    at once. On a full disk the reserve is used. Raises ``sqlite3.Error``, ``OSError`` or ``NotOurs``.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise NotOurs(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync_names_above(path.parent)
    keep_log(path)
    with suppress(FileExistsError):
        # Exclusive: to open and close an existing file would drop the locks that this process has on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return _with_room(path, partial(_open_for_writing, path))


def _sync_names_above(folder: Path) -> None:
    """Have the name of the folder, and of those above it on its disk, outlive a power cut.

    SQLite sees to the names of its files, but not to that of a folder which may be new, by us or by another process.
    """
    device = folder.stat().st_dev
    for above in folder.resolve().parents:
        # Where it is not allowed, or the file system cannot, the names are as safe as that system makes them.
        with suppress(OSError):
            if above.stat().st_dev != device:
                return
            descriptor = os.open(above, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _open_for_writing(path: Path) -> tuple[sqlite3.Connection, Files]:
    settle(path, _SETTLE_SECONDS)
    before = identify(path)
    connection = sqlite3.connect(path, timeout=_OPEN_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        cursor = connection.cursor()
        schema.is_current(cursor)
        _enter_wal_mode(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        # On macOS a plain fsync leaves the data in the drive's cache; elsewhere this does nothing.
        cursor.execute("PRAGMA fullfsync = ON")
        cursor.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        # What is in the log and not yet in the file must fit into the reserve, which is smaller on a small disk.
        (page_bytes,) = cursor.execute("PRAGMA page_size").fetchone()
        most_pages = min(_CHECKPOINT_PAGES, reserve.bytes_for(path) // 2 // page_bytes)
        cursor.execute(f"PRAGMA wal_autocheckpoint = {max(1, most_pages)}")
        schema.upgrade(cursor)
        # From here on the writer waits for the lock itself, so that what waits with it can still be withdrawn.
        cursor.execute("PRAGMA busy_timeout = 0")
        files = identify(path)
        if files.database != before.database or files.log is None or files.log_index is None:
            raise FileGone("the file was replaced while it was being opened")
    except BaseException:
        connection.close()
        raise
    return connection, files


def _with_room(path: Path, attempt: Callable[[], T]) -> T:
    """What ``attempt`` returns, made once more with the reserve when the disk is full."""
    try:
        return attempt()
    except sqlite3.Error as error:
        if not (is_for_want_of_room(error) and reserve.Reserve(path).release()):
            raise
    return attempt()


def _enter_wal_mode(cursor: sqlite3.Cursor) -> None:
    deadline = time.monotonic() + _OPEN_SECONDS
    mode = None
    while mode is None:
        try:
            (mode,) = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # Processes that open a new file together may find it locked, and SQLite does not wait at this step.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    if mode != "wal":
        raise NotOurs(f"its file system cannot share memory (journal mode {mode}): put it on a local disk")


class Reader:
    """Reads what is committed, without waiting for a writer or keeping one waiting. Safe between threads.

    Opens the file at the first read, and again when it was replaced; never creates it. Waits ``patience_seconds`` for
    others that are opening or closing it at that moment.
    """

    def __init__(self, path: Path, patience_seconds: float = _SETTLE_SECONDS) -> None:
        self.path = path
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._files: Files | None = None
        self._look_at_all_at = 0.0

    def read(self, operation: Callable[[sqlite3.Cursor], T]) -> T:
        """What ``operation`` makes of the file. Raises ``sqlite3.Error``, ``OSError`` or ``NotOurs``."""
        with self._lock:
            try:
                return operation(self._open().cursor())
            except (sqlite3.Error, OSError):
                self._close()
                raise

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            self._close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._is_where_it_was():
                return self._connection
            self._close()
        settle(self.path, self._patience_seconds)
        database = identify_database(self.path)
        self._connection = _with_room(self.path, self._connect)
        self._files = identify(self.path)
        if self._files.database != database:
            raise FileGone("the file was replaced while it was being opened")
        return self._connection

    def _is_where_it_was(self) -> bool:
        assert self._files is not None
        now = time.monotonic()
        if now < self._look_at_all_at:
            # Each send comes here, where there is a spool.
            return identify_database(self.path) == self._files.database
        self._look_at_all_at = now + _LOOK_AT_ALL_SECONDS
        return identify(self.path) == self._files

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_READ_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA query_only = ON")
            if not schema.is_current(cursor):
                raise NotOurs("no gateway of this release has opened the file yet: start one first")
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
