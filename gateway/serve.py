"""Serving: uvicorn as this gateway wants it, in one process or in several."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from gateway.config.settings import VARIABLES, Settings
from gateway.config.variables import Variable
from gateway.http.server import ProtocolFactory

_HOST, _PORT = VARIABLES["host"], VARIABLES["port"]
# Long enough for every request in flight to get its answer (see pipeline.boundary), short of the 15 s promised.
_GRACE_SECONDS = 14


class CannotListen(Exception):
    """Nobody can listen on the configured address; says why, and what to do."""

    def __init__(self, variable: Variable, host: str, port: int, reason: str) -> None:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__(f"{variable.name}: cannot listen on {place}: {reason}")


def serve(settings: Settings, workers: int) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises ``CannotListen``.

    Of several workers each reads the configuration from the environment for itself: digests are all that a process
    keeps of keys, so there is nothing to hand over.
    """
    _try_to_listen(settings.host, settings.port)
    # Metrics of one worker need no files, whatever this process was started from.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    config = uvicorn.Config(
        _app(settings) if workers == 1 else "gateway.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        http=ProtocolFactory(),  # type: ignore[arg-type]  # uvicorn calls it and asks nothing more of it
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


def _try_to_listen(host: str, port: int) -> None:
    """Raise ``CannotListen`` when nobody can: uvicorn would say so late, in a log line, and not what to do."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as failure:
        reason = f"{failure.strerror}. Write an IP address of this machine, or 0.0.0.0 for all"
        raise CannotListen(_HOST, host, port, reason) from None
    failures = [_listen(family, address) for family, _, _, _, address in addresses]
    numbers = {failure.errno for failure in failures if failure}
    if errno.EADDRINUSE in numbers:
        another = 8001 if port == 8000 else 8000
        reason = f"another program does already. Stop it, or choose another port: {VARIABLES['port'].name}={another}"
        raise CannotListen(_PORT, host, port, reason)
    if errno.EACCES in numbers:
        raise CannotListen(_PORT, host, port, "not permitted. Choose a port from 1024 on")
    # A name may stand for several addresses, of which this machine has some.
    if numbers and all(failures):
        reason = "it is no address of this machine. Write one that is, or 0.0.0.0 for all"
        raise CannotListen(_HOST, host, port, reason)


def _listen(family: int, address: tuple[object, ...]) -> OSError | None:
    """Listen as uvicorn will, for a moment; returns what keeps one from it."""
    try:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(address)
    except OSError as failure:
        return failure
    return None


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
