"""What a stage costs that does nothing: the gateway's own composition, called in this process.

Over HTTP 5 µs vanish in the noise of some 200. Here the whole application is called, once with five stages that do
nothing before the one that answers and once without them; the difference is what they cost, stopwatches and metrics
included. Each batch ends with a scrape, since what a stage tells the metrics is added up there.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.types import Message, Scope

from gateway.app import Gateway, create
from gateway.config.settings import load
from gateway.observability.logs import Log
from tests.bench.stages import ACCEPT, NOTHING
from tests.support.gateways import SEND


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    """The answer is of no interest."""


def measure(batches: int, calls: int) -> float:
    """CPU µs that five stages which do nothing add to a request: the median over pairs of batches of so many calls."""
    with TemporaryDirectory() as directory:
        with_five = _application(directory, (*NOTHING, ACCEPT))
        with_none = _application(directory, (ACCEPT,))
        return asyncio.run(_difference(with_five, with_none, batches, calls))


def _application(directory: str, pipeline: tuple[str, ...]) -> Gateway:
    # The file is never opened: no request gets that far.
    url = f"embedded:{Path(directory) / 'gateway.db'}"
    environ = {"REDIS_URL": url, "RABBITMQ_URL": url, "PIPELINE": ",".join(pipeline)}
    # Above the level of a request's line: both would write the same one.
    return create(load(environ), Log("bench", "CRITICAL"))


async def _difference(with_five: Gateway, with_none: Gateway, batches: int, calls: int) -> float:
    differences = []
    for _ in range(batches + 1):
        five = await _batch(with_five, calls)
        none = await _batch(with_none, calls)
        differences.append((five - none) / calls * 1e6)
    # The first is for warming up.
    return statistics.median(differences[1:])


async def _batch(app: Gateway, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await app(_request("POST", SEND), _receive, _send)
    await app(_request("GET", "/metrics"), _receive, _send)
    return time.process_time() - began


def _request(method: str, path: str) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [],
        "query_string": b"",
        "root_path": "",
    }
