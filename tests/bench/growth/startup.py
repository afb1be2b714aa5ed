"""How long a gateway takes to serve, and how much memory it takes, with a configuration of some size."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.growth import usage
from tests.support.gateways import Gateway


@dataclass(frozen=True)
class StartUp:
    """From the start of the process to its first answer of ``/healthz``, and its memory then."""

    seconds: float
    rss_mib: float
    peak_rss_mib: float


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        yield Path(name)


def start_up(configuration: str) -> StartUp:
    """Start a gateway over an embedded file with what stands in this TOML, once."""
    with folder() as directory:
        (directory / "gateway.toml").write_text(configuration, encoding="utf-8")
        url = f"embedded:{directory / 'gateway.db'}"
        environ = {
            "REDIS_URL": url,
            "RABBITMQ_URL": url,
            "CLIENT_CONFIG": "",
            "PROVIDERS_CONFIG": "",
            "GATEWAY_CONFIG": str(directory / "gateway.toml"),
        }
        gateway = Gateway(directory, environ)
        started = time.perf_counter()
        try:
            gateway.start(ready=False)
            seconds = time.perf_counter() - started
            assert gateway.process is not None
            pid = gateway.process.pid
            return StartUp(seconds, usage.rss_mib(pid), usage.peak_rss_mib(pid))
        finally:
            gateway.__exit__()
