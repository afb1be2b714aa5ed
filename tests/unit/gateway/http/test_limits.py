"""The bounds that connections share."""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Any

import pytest

from gateway.http.limits import MANY_WAITING, OWN_FILES, Flow, Shared


async def test_a_connection_that_idles_for_too_long_is_told() -> None:
    """Unless it is busy again."""

    class Connection:
        def __init__(self) -> None:
            self.told = 0

        def timeout_keep_alive_handler(self) -> None:
            self.told += 1

    shared = Shared(asyncio.get_running_loop(), 0.02)
    idle, busy = Connection(), Connection()
    shared.idle.add(idle)
    shared.idle.add(busy)
    shared.idle.discard(busy)
    await asyncio.sleep(0.2)
    assert (idle.told, busy.told) == (1, 0)


@pytest.mark.parametrize(
    ("files", "most"), [(1024, 1024 - OWN_FILES), (10, 1), (resource.RLIM_INFINITY, sys.maxsize)]
)
async def test_some_files_are_kept_from_connections(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    """A process without a limit has none for its connections either."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert Shared(asyncio.get_running_loop(), 30).most_connections == most


class Transport:
    """Notes whether it reads."""

    def __init__(self) -> None:
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


@pytest.mark.parametrize(("waiting", "reads"), [(MANY_WAITING, False), (MANY_WAITING - 1, True), (0, True)])
async def test_reading_goes_on_when_few_wait(waiting: int, reads: bool) -> None:
    """Whoever asks for it to."""
    transport: Any = Transport()
    flow = Flow(transport, range(waiting))
    flow.pause_reading()
    flow.resume_reading()
    assert transport.reads == reads
