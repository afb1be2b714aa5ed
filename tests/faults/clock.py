"""The wall clock of a gateway under test: as far from the machine's as a file says, from one reading to the next.

``stages`` has every process of a gateway follow it. That changes what Python's clocks return, and leaves the monotonic
one as it is, as a step of a machine's clock does. Redis and RabbitMQ keep the machine's clock.
"""

from __future__ import annotations

import datetime as dt
import importlib
import os
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "FAULTS_CLOCK"
"""Names the file; where it is not set nothing is changed."""

_BYTES = 16
_SECOND_NS = 1_000_000_000
# Where the name ``datetime`` stands for the class.
_USERS = ("gateway.clock", "gateway.embedded.schema", "gateway.embedded.moving.mover")

_time, _time_ns, _now = time.time, time.time_ns, dt.datetime.now


def set_ahead(path: Path, seconds: int) -> None:
    """Have the processes that follow ``path`` be so far ahead of the machine's clock, or below 0 behind it."""
    path.touch()
    with path.open("r+b") as file:
        file.write(f"{seconds:+{_BYTES - 1}d}\n".encode())


def _follow(path: str) -> None:
    file = os.open(path, os.O_RDONLY)

    def ahead() -> int:
        return int(os.pread(file, _BYTES, 0))

    class Moved(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return _now(tz) + dt.timedelta(seconds=ahead())

    time.time = lambda: _time() + ahead()
    time.time_ns = lambda: _time_ns() + ahead() * _SECOND_NS
    for name in _USERS:
        with suppress(ImportError):
            module = importlib.import_module(name)
            if getattr(module, "datetime", None) is dt.datetime:
                module.datetime = Moved  # type: ignore[attr-defined]


def follow() -> None:
    """Have this process's clock be as far from the machine's as its environment's file says, if it names one."""
    if VARIABLE in os.environ:
        _follow(os.environ[VARIABLE])
