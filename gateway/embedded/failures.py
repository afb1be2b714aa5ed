"""What can go wrong with the file, what is known of the outcome then, and what it means to people."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class DatabaseError(Exception):
    """An operation could not be carried out; the message says why, in words for people, and holds no data."""


class NotDone(DatabaseError):
    """It is certainly not done, and will not be."""


class MaybeDone(DatabaseError):
    """It may have been done, or be done still."""


class NotOurs(Exception):
    """The file holds something that this program must not touch."""


class FileGone(OSError):
    """The file was removed or replaced while it was open: what is written to it now would be lost."""


_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked: find it with 'lsof' or 'fuser'",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that directory and file belong to the gateway's user",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away, and 'sqlite3 FILE .recover' gets out what it holds",
    sqlite3.SQLITE_FULL: "there is no room: free some space on the disk",
    sqlite3.SQLITE_IOERR: "reading or writing failed: check the disk and its space",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: name another path",
    sqlite3.SQLITE_READONLY: "it cannot be written: check that directory and file belong to the gateway's user",
}

# Errors of the Python module itself, such as a wrong number of parameters, have no code.
_STATEMENT_ERRORS = frozenset(
    {
        None,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


def is_busy(error: Exception) -> bool:
    """Whether another connection holds the lock that was needed."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_full(error: Exception) -> bool:
    """Whether there was no room; the connection itself is as good as before."""
    return _code(error) == sqlite3.SQLITE_FULL


def is_for_want_of_room(error: Exception) -> bool:
    """Whether room on the disk would have helped: for data, or for the memory that all who open the file share."""
    return is_full(error) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE


def is_io(error: Exception) -> bool:
    """Whether the disk failed: what was being written may be on it or not."""
    return _code(error) == sqlite3.SQLITE_IOERR


def is_not_ours(error: BaseException | None) -> bool:
    """Whether the file is another program's, or a newer release's: no disk will make it right."""
    return isinstance(error, NotOurs) or _code(error) == sqlite3.SQLITE_NOTADB


def is_of_statement(error: sqlite3.Error) -> bool:
    """Whether it is the statement's or its data's own fault."""
    return _code(error) in _STATEMENT_ERRORS


def _code(error: BaseException | None) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def explain(path: Path, error: Exception) -> str:
    """The error in words for people, with what to do about it."""
    code = _code(error)
    if code is not None:
        return f"{path}: {_ADVICE.get(code, error)} ({getattr(error, 'sqlite_errorname', code)})"
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    return f"{path}: {error}"
