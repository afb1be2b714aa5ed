"""What an error of SQLite means, told from real ones, and in words that help."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.embedded.failures import (
    FileGone,
    explain,
    is_busy,
    is_for_want_of_room,
    is_full,
    is_io,
    is_of_statement,
)


def error_of(path: Path, *statements: str) -> sqlite3.Error:
    """The error in which the last of these statements ends."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        with pytest.raises(sqlite3.Error) as raised:
            connection.execute(statements[-1])
    return raised.value


def busy(path: Path) -> sqlite3.Error:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        return error_of(path, "BEGIN IMMEDIATE")


def full(path: Path) -> sqlite3.Error:
    bounds = "PRAGMA max_page_count = 3"
    return error_of(path, "CREATE TABLE t (b)", bounds, "INSERT INTO t VALUES (zeroblob(100000))")


def readonly(path: Path) -> sqlite3.Error:
    return error_of(path, "CREATE TABLE t (b)", "PRAGMA query_only = ON", "INSERT INTO t VALUES (1)")


def no_database(path: Path) -> sqlite3.Error:
    path.write_bytes(b"To be, or not to be, that is the question. " * 100)
    return error_of(path, "SELECT * FROM sqlite_schema")


def cannot_open(path: Path) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as raised:
        sqlite3.connect(path / "nowhere.db")
    return raised.value


def of_statement(path: Path) -> sqlite3.Error:
    return error_of(path, "SELECT * FROM nowhere")


def of_data(path: Path) -> sqlite3.Error:
    return error_of(path, "CREATE TABLE t (b UNIQUE)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")


def io(path: Path) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"
    return error


def no_shared_memory(path: Path) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_SHMSIZE, "SQLITE_IOERR_SHMSIZE"
    return error


JUDGES = (is_busy, is_full, is_for_want_of_room, is_io, is_of_statement)


@pytest.mark.parametrize(
    ("make", "judged", "advice"),
    [
        (busy, {is_busy}, "another process keeps it locked: find it with 'lsof' or 'fuser' (SQLITE_BUSY)"),
        (full, {is_full, is_for_want_of_room}, "there is no room: free some space on the disk (SQLITE_FULL)"),
        (
            no_shared_memory,
            {is_io, is_for_want_of_room},
            "check the disk and its space (SQLITE_IOERR_SHMSIZE)",
        ),
        (io, {is_io}, "reading or writing failed: check the disk and its space (SQLITE_IOERR_WRITE)"),
        (readonly, set(), "it cannot be written: check that directory and file belong to the gateway's user"),
        (no_database, set(), "it is no SQLite database: name another path (SQLITE_NOTADB)"),
        (
            cannot_open,
            set(),
            "it cannot be opened: check that directory and file belong to the gateway's user",
        ),
        (of_statement, {is_of_statement}, "no such table: nowhere (SQLITE_ERROR)"),
        (of_data, {is_of_statement}, "UNIQUE constraint failed"),
    ],
)
def test_an_error_is_told_from_all_others(
    tmp_path: Path,
    make: Callable[[Path], sqlite3.Error],
    judged: set[Callable[..., bool]],
    advice: str,
) -> None:
    """And its words name the file and say what to do."""
    path = tmp_path / "gateway.db"
    error = make(path)
    assert {judge for judge in JUDGES if judge(error)} == judged
    told = explain(path, error)
    assert told.startswith(f"{path}: ")
    assert advice in told


def test_errors_without_a_code_are_explained_by_their_words() -> None:
    """Those of the system, ours, and those of the module that drives SQLite."""
    path = Path("gateway.db")
    assert explain(path, PermissionError(13, "Permission denied", "x")) == "gateway.db: Permission denied"
    assert explain(path, FileGone("the file was replaced")) == "gateway.db: the file was replaced"
    wrong_count = sqlite3.ProgrammingError("Incorrect number of bindings supplied")
    assert is_of_statement(wrong_count)
    assert explain(path, wrong_count).endswith("Incorrect number of bindings supplied")
