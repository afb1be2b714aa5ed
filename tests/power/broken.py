"""A gateway broken on purpose: ``python -m tests.power.broken SYNCHRONOUS serve ...`` syncs less than it should.

It shows that the cuts would be noticed by who does not sync.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from typing import Any

from gateway.cli import main


class _Cursor(sqlite3.Cursor):
    synchronous = ""

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement.startswith("PRAGMA synchronous"):
            statement = f"PRAGMA synchronous = {self.synchronous}"
        return super().execute(statement, *arguments)


class _Connection(sqlite3.Connection):
    def cursor(self, *_: Any, **__: Any) -> Any:
        return super().cursor(_Cursor)


if __name__ == "__main__":
    _Cursor.synchronous = sys.argv.pop(1)
    sqlite3.connect = functools.partial(sqlite3.connect, factory=_Connection)  # type: ignore[assignment]
    sys.exit(main())
