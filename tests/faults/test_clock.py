"""The clock of a process under test: as far ahead as the file says, from one reading to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.faults import clock
from tests.faults.releases import ROOT

READ = """
import sys, time
from datetime import datetime, UTC
from pathlib import Path
from tests.faults import clock
before = time.time()
clock.follow()
from gateway.clock import SystemClock
from gateway.embedded.schema import now_ms
path = Path(sys.argv[1])
for seconds in (3600, -3600, 0):
    clock.set_ahead(path, seconds)
    told = SystemClock().now().timestamp(), time.time(), time.time_ns() / 1e9, now_ms() / 1e3
    assert all(abs(moment - before - seconds) < 60 for moment in told), (seconds, told)
assert time.monotonic() < before
"""


def test_every_clock_but_the_monotonic_one_moves(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    clock.set_ahead(path, 0)
    environ = {**os.environ, clock.VARIABLE: str(path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", READ, str(path)], env=environ, check=True, timeout=60)
