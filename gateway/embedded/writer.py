"""The one thread of this process that writes to the file.

It gets the file's write lock first, takes then all jobs that wait and commits them in one transaction: one fsync for
all of them. So what waits for a lock that another process holds is certainly not done, and can be withdrawn.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.embedded import schema
from gateway.embedded.connection import open_for_writing
from gateway.embedded.failures import (
    DatabaseError,
    FileGone,
    MaybeDone,
    NotDone,
    NotOurs,
    explain,
    is_busy,
    is_full,
    is_io,
    is_of_statement,
)
from gateway.embedded.filelock import FileLock
from gateway.embedded.files import Files, identify, is_log_unused
from gateway.embedded.jobs import Job, Jobs
from gateway.embedded.reserve import Reserve

_logger = logging.getLogger(__name__)

# SQLite's own waiting backs off to 100 ms, and starves those who wait: a process that writes without a pause takes the
# lock again before they have asked once more. So we ask often, and whoever is next in asking keeps the others from it.
# That is a courtesy, done without after a while: its holder may be a stopped process.
_TURN_SECONDS = 0.05
_POLL_SECONDS = 0.0005
_POLL_SECONDS_LATER = 0.005
_LATER_SECONDS = 0.1

_RESCUE_SECONDS = 1.0
_REPORT_LOCKED_SECONDS = 1.0
_PROBE_SECONDS = 1.0
_HOUSEKEEPING_SECONDS = 10.0
_SWEEP_MORE_SECONDS = 0.05


class Writer:
    """Writes ``jobs`` to the file at ``path`` from ``start`` until ``jobs`` is closed and empty.

    All callbacks come from its thread: ``tell`` with jobs that have a result or an error, ``report`` when the file
    becomes usable or ceases to be, ``let_go`` when others of this process must close it, too. Opens the file anew, for
    ever, after whatever failed.
    """

    def __init__(
        self,
        path: Path,
        jobs: Jobs,
        tell: Callable[[list[Job]], None],
        report: Callable[[bool], None],
        let_go: Callable[[], None],
    ) -> None:
        self.path = path
        self.commits = 0
        self.operations = 0
        self._jobs = jobs
        self._tell = tell
        self._report = report
        self._let_go = let_go
        self._connection: sqlite3.Connection | None = None
        self._files: Files | None = None
        self._turn: FileLock | None = None
        self._reserve: Reserve | None = None
        self._is_up: bool | None = None
        self._housekeeping_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"write {path.name}", daemon=True)

    def start(self) -> None:
        """Begin, with opening the file."""
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        while self._jobs.wait(self._housekeeping_at - time.monotonic()):
            try:
                self._keep_house()
                if len(self._jobs):
                    self._write()
            except Exception as error:  # noqa: BLE001 - whatever it was: without this thread nothing is stored
                self._fail(error)
        self._disconnect()

    def _keep_house(self) -> None:
        if time.monotonic() < self._housekeeping_at:
            return
        # Not at once in all processes.
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS * jitter
        with suppress(NotDone):
            self._jobs.put(Job(self._sweep))

    def _sweep(self, cursor: sqlite3.Cursor) -> None:
        assert self._reserve is not None
        self._reserve.fill()
        # A real write: it also tells whether the file is usable, at start and again after a failure.
        schema.touch(cursor)
        if schema.sweep(cursor):
            self._housekeeping_at = time.monotonic() + _SWEEP_MORE_SECONDS

    def _write(self) -> None:
        connection = self._connect()
        cursor = connection.cursor()
        if not self._begin(cursor):
            return
        # With the lock: from here on nobody else can write to what may have taken the place of our files.
        self._check()
        jobs = self._jobs.take()
        try:
            for job in jobs:
                job.result = job.operation(cursor)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever brought the operation
            self._roll_back(connection)
            if len(jobs) > 1:
                # Let the others not suffer for the one that failed.
                self._jobs.put_back(jobs)
            elif not self._try_with_room(connection, jobs, error):
                self._blame(jobs[0], error)
            return
        self._commit(connection, cursor, jobs)

    def _connect(self) -> sqlite3.Connection:
        """Open the file unless it is open already."""
        if self._connection is None:
            self._connection, self._files = open_for_writing(self.path)
            self._turn = FileLock(self.path.with_name(f"{self.path.name}-turn"))
            self._reserve = Reserve(self.path)
            self._reserve.fill()
        return self._connection

    def _check(self) -> None:
        """Raise ``FileGone`` when others, and we after a restart, would not find what is written now."""
        assert self._files is not None
        identify(self.path).demand(self._files, self.path)

    def _rescue(self) -> None:
        """What was committed to a log that is not there any more is written to the file, for who opens it next."""
        if self._connection is not None:
            self._roll_back(self._connection)
        # Another log that is in use already is what the index speaks of. That of a database which was moved away is
        # ours, and must be empty before a new one is made (`keep_log`).
        is_moved = not self.path.exists()
        deadline = time.monotonic() + _RESCUE_SECONDS
        while self._connection is not None and (is_moved or is_log_unused(self.path)):
            with suppress(sqlite3.Error):
                mode = "TRUNCATE" if is_moved else "FULL"
                (is_blocked, *_) = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                if not is_blocked:
                    return
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS_LATER)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    def _begin(self, cursor: sqlite3.Cursor) -> bool:
        """Begin a transaction, with the file's write lock; False when by then no job waits any more."""
        assert self._turn is not None
        since = time.monotonic()
        try:
            while True:
                waited = time.monotonic() - since
                if self._turn.take() or waited > _TURN_SECONDS:
                    try:
                        cursor.execute("BEGIN IMMEDIATE")
                        return True
                    except sqlite3.OperationalError as error:
                        if not is_busy(error) or self._jobs.is_given_up:
                            raise
                        if waited > _REPORT_LOCKED_SECONDS:
                            self._is_usable(False, explain(self.path, error))
                if not len(self._jobs):
                    return False
                most = _POLL_SECONDS if waited < _LATER_SECONDS else _POLL_SECONDS_LATER
                time.sleep(random.uniform(most / 5, most))  # noqa: S311 - no secret
        finally:
            self._turn.release()

    def _commit(self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, jobs: list[Job]) -> None:
        try:
            cursor.execute("COMMIT")
            self._check()
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                self._roll_back(connection)
                if self._try_with_room(connection, jobs, error):
                    return
            # After a failed write SQLite has rolled back, yet what it wrote may come back when the file is recovered.
            in_doubt = isinstance(error, OSError) or is_io(error)
            self._settle(jobs, MaybeDone if in_doubt else NotDone, error)
            self._note_trouble(error)
            return
        self.commits += 1
        self.operations += len(jobs)
        self._is_usable(True)
        if any(job.makes_room for job in jobs):
            assert self._reserve is not None
            self._reserve.fill()
        self._tell(jobs)

    def _try_with_room(self, connection: sqlite3.Connection, jobs: list[Job], error: Exception) -> bool:
        """Have jobs done one by one when some of them make room and the reserve can be used; False otherwise."""
        assert self._reserve is not None
        if not (is_full(error) and any(job.makes_room for job in jobs) and self._reserve.release()):
            return False
        # The log is written to the file and begins anew. A reader in the middle of it is no reason not to go on.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._jobs.put_back(sorted(jobs, key=lambda job: not job.makes_room))
        return True

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        # Some errors make SQLite roll back by itself.
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()

    def _blame(self, job: Job, error: Exception) -> None:
        """A job failed that was alone in its transaction."""
        if not isinstance(error, sqlite3.Error):
            job.error = error
            self._tell([job])
            return
        self._settle([job], NotDone, error)
        if not is_of_statement(error):
            self._note_trouble(error)

    def _fail(self, error: Exception) -> None:
        """Nothing can be written now."""
        if not isinstance(error, (sqlite3.Error, OSError, NotOurs)):
            _logger.error("a bug in the writing thread", exc_info=error)
        self._note_trouble(error)
        self._settle(self._jobs.take_all(), NotDone, error)

    def _note_trouble(self, error: Exception) -> None:
        self._is_usable(False, explain(self.path, error))
        self._housekeeping_at = time.monotonic() + _PROBE_SECONDS
        if isinstance(error, FileGone):
            self._rescue()
            self._let_go()
        if not is_full(error):
            self._disconnect()

    def _settle(self, jobs: list[Job], kind: type[DatabaseError], error: Exception) -> None:
        for job in jobs:
            job.error = kind(explain(self.path, error))
        self._tell(jobs)

    def _is_usable(self, is_up: bool, reason: str = "") -> None:
        if is_up is self._is_up:
            return
        self._is_up = is_up
        if is_up:
            _logger.info("%s is open", self.path)
        else:
            _logger.error("cannot write: %s", reason)
            self._housekeeping_at = time.monotonic() + _PROBE_SECONDS
        self._report(is_up)
