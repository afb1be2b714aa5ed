"""CPU time and memory of processes, as the operating system tells them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.bench.processes import (
    IS_LINUX,
    LINUX_ONLY,
    _cpu_seconds,
    all_but_one_core,
    cpu_seconds,
    family,
    keep_on,
    resident_bytes,
)

pytestmark = pytest.mark.skipif(not IS_LINUX, reason=LINUX_ONLY)

BUSY_CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "print(flush=True)\\nwhile True: pass"])
"""


@pytest.fixture
def parent() -> Iterator[int]:
    """A process that waits for its child, which is busy."""
    command = [sys.executable, "-c", BUSY_CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        with contextlib.suppress(ProcessLookupError):  # The test has ended both.
            os.killpg(process.pid, 9)


def test_what_a_child_spends_counts(parent: int) -> None:
    assert len(family(parent)) == 2
    before = cpu_seconds(parent)
    deadline = time.monotonic() + 30
    while cpu_seconds(parent) - before < 0.02:
        assert time.monotonic() < deadline


def test_a_process_and_its_children_can_be_kept_on_a_core(parent: int) -> None:
    core = max(os.sched_getaffinity(0))
    keep_on(parent, [core])
    for member in family(parent):
        assert os.sched_getaffinity(member) == {core}


def test_one_core_is_left_alone_and_given_back(parent: int) -> None:
    before = os.sched_getaffinity(0)
    with all_but_one_core() as core:
        for member in (os.getpid(), *family(parent)):
            assert os.sched_getaffinity(member) == (before - {core} or before)
    for member in (os.getpid(), *family(parent)):
        assert os.sched_getaffinity(member) == before


def test_memory_is_that_of_both(parent: int) -> None:
    _, child = family(parent)
    assert resident_bytes(parent) > resident_bytes(child) > 1 << 20


def test_the_clock_of_a_process_is_the_one_that_python_reads() -> None:
    before = time.process_time()
    ours = _cpu_seconds(os.getpid())
    assert before <= ours <= time.process_time()


def test_a_process_that_has_ended_spends_nothing(parent: int) -> None:
    os.killpg(parent, 9)
    os.waitpid(parent, 0)
    assert cpu_seconds(parent) == 0
    assert resident_bytes(parent) == 0
