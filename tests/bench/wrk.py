"""wrk, the load generator: what it is told to send, and what it says came of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateways import SEND
from tests.support.servers import ServerMissing

_SCRIPT = Path(__file__).with_name("load.lua")
_TIMEOUT_SECONDS = 10


class WrongAnswers(Exception):
    """The load got other answers than the case is about: its figures would be those of something else."""


@dataclass(frozen=True)
class Load:
    """A request that is sent over and over; with ``fresh_key`` each has an Idempotency-Key of its own.

    ``path`` may end in a query. A request with an empty ``body`` has none.
    """

    headers: Mapping[str, str]
    body: str
    fresh_key: bool = False
    method: str = "POST"
    path: str = SEND


@dataclass(frozen=True)
class Answers:
    """What came of a run: requests that were answered, in how many seconds, and how fast."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: Mapping[int, int]
    socket_errors: int

    def expect(self, status: int) -> None:
        """Raise ``WrongAnswers`` unless all answers had this status, and there were some."""
        if set(self.statuses) == {status} and not self.socket_errors:
            return
        found = ", ".join(f"{count} × {other}" for other, count in sorted(self.statuses.items()))
        raise WrongAnswers(
            f"expected only {status}, got {found or 'no answer'}, and {self.socket_errors} socket errors"
        )


def program() -> str:
    """The installed ``wrk``. Raises ``ServerMissing``."""
    if found := shutil.which("wrk"):
        return found
    raise ServerMissing("wrk is not installed: run `sh tests/bench/install-wrk.sh`")


def run(url: str, load: Load, connections: int, seconds: int) -> Answers:
    """Send ``load`` over so many connections at once, for so long, each connection as fast as it gets answers."""
    command = [
        program(),
        # One thread is enough for more than any gateway answers, and leaves the other cores to it.
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        f"--timeout={_TIMEOUT_SECONDS}s",
        f"--script={_SCRIPT}",
        url + load.path,
        "--",
        "fresh" if load.fresh_key else "same",
        uuid.uuid4().hex[:12],
        load.method,
        load.body,
        *(f"{name}: {value}" for name, value in load.headers.items()),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    return parse(done.stdout)


def parse(output: str) -> Answers:
    """What our script prints last of all, as JSON on a line of its own."""
    last = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
    if last is None:
        raise ValueError(f"wrk did not print its figures: {output!r}")
    figures = json.loads(last)
    return Answers(
        requests=figures["requests"],
        seconds=figures["duration_us"] / 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        statuses={int(status): count for status, count in figures["statuses"].items()},
        socket_errors=figures["socket_errors"],
    )
