"""Serving: uvicorn as this gateway wants it, in one process or in several."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from gateway.config.settings import Settings
from gateway.http.server import Http

# Long enough for every request in flight to get its answer (see pipeline.boundary), short of the 15 s promised.
_GRACE_SECONDS = 14


def serve(settings: Settings, workers: int) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Of several workers each reads the configuration from the environment for itself: digests are all that a process
    keeps of keys, so there is nothing to hand over.
    """
    # Metrics of one worker need no files, whatever this process was started from.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    config = uvicorn.Config(
        _app(settings) if workers == 1 else "gateway.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        http=Http(),  # type: ignore[arg-type]  # uvicorn calls it and asks nothing more of it
        interface="asgi3",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn ends by raising the signal that stopped it once more: for us that is the end of a clean run.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # A terminal that goes away does not end a service.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _allow_many_connections()
    if workers == 1:
        server = uvicorn.Server(config)
        server.run()
        return 0 if server.started else 3
    return _serve_in_several(config)


def _app(settings: Settings) -> Callable[[], ASGIApp]:
    """Makes the application of the only worker, from the configuration that this process has read already."""

    def make() -> ASGIApp:
        # Not before: prometheus_client looks at the environment when it is imported.
        from gateway.app import of_process  # noqa: PLC0415

        return of_process(settings)

    return make


def _serve_in_several(config: uvicorn.Config) -> int:
    # Set before any worker imports prometheus_client, which looks for it at that moment.
    directory = tempfile.mkdtemp(prefix="sms-gateway-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    try:
        supervisor = Multiprocess(config, sockets=[config.bind_socket()])
        supervisor.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls its limit infinite and refuses it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
