"""Serving: uvicorn as this gateway wants it, in one process or in several."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import resource
import signal
import socket
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from loguru import logger

from gateway import process
from gateway.config.settings import VARIABLES, Settings
from gateway.config.variables import Variable
from gateway.http.server import ProtocolFactory
from gateway.observability.logs import Log

if TYPE_CHECKING:
    from gateway.worker import Worker

_HOST, _PORT = VARIABLES["host"], VARIABLES["port"]
# Long enough for every request in flight to get its answer (see pipeline.boundary), short of process.CLOSE_SECONDS.
_GRACE_SECONDS = 13.4
# Of prometheus_client, which would have metrics of a worker lie in files: ours need none, whatever started us.
_FILES_OF_METRICS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class CannotListen(Exception):
    """Nobody can listen on the configured address; says why, and what to do."""

    def __init__(self, variable: Variable, host: str, port: int, reason: str) -> None:
        if host != "localhost" and not _is_address(host):
            # A secret in the wrong variable looks like a name.
            place = f"port {port} of the host that {_HOST.name} names"
        else:
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__(f"{variable.name}: cannot listen on {place}: {reason}")


class Server(uvicorn.Server):
    """uvicorn's, whose process ends for certain once it is told to, and which tells when it serves, as ``worker``."""

    def __init__(self, config: uvicorn.Config, worker: Worker | None) -> None:
        super().__init__(config)
        self._worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``: from here on connections are accepted. Raises ``CannotListen``."""
        await super().startup(sockets)
        for listener in sockets or ():
            try:
                # Once more: uvloop does not say when it could not, since somebody else listens by now.
                listener.listen(self.config.backlog)
            except OSError:
                await self.lifespan.shutdown()
                raise _taken(self.config.host, self.config.port) from None
        if self._worker is not None:
            self._worker.serve()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See ``uvicorn.Server``: the handler of the signals to end."""
        if not self.should_exit:
            process.end_for_certain()
        # A second SIGINT cuts off what is in flight, as an impatient Ctrl-C is meant to. But a worker hears of the
        # first one twice: from the terminal, and by its supervisor.
        super().handle_exit(sig if self._worker is None else signal.SIGTERM, frame)


def serve(settings: Settings, workers: int, log: Log) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises ``CannotListen``."""
    # uvicorn ends by raising the signal that stopped it once more: for us that is the end of a clean run. And before
    # all that takes time: the first process of a container gets no signal that it has no handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    _try_to_listen(settings.host, settings.port)
    for name in _FILES_OF_METRICS:
        os.environ.pop(name, None)
    # Not before: prometheus_client looks at the environment when it is imported.
    from gateway import app  # noqa: PLC0415
    from gateway.supervisor import Supervisor  # noqa: PLC0415

    # From here on no terminal that goes away ends a service.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _allow_many_connections()
    worker = None
    config = uvicorn.Config(
        lambda: app.of_process(settings, log, worker),
        factory=True,
        host=settings.host,
        port=settings.port,
        http=ProtocolFactory(),  # type: ignore[arg-type]  # uvicorn calls it and asks nothing more of it
        interface="asgi3",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,  # type: ignore[arg-type]  # uvicorn adds it to a time
    )
    if workers == 1:
        return _run(config)
    listener = config.bind_socket()
    # Before any worker is forked, so that they share what does not change.
    process.tune_gc()
    outcome = Supervisor(listener, workers, log.flush).run()
    if isinstance(outcome, int):
        return outcome
    worker = outcome
    log.forget()
    return _run(config, [listener], worker)


def _run(
    config: uvicorn.Config, sockets: list[socket.socket] | None = None, worker: Worker | None = None
) -> int:
    """Serve with this process until it is told to end; returns the exit code."""
    server = Server(config, worker)
    try:
        server.run(sockets)
    except CannotListen as error:
        logger.critical("{}", error)
        return process.CANNOT_START
    except Exception:  # noqa: BLE001 - whatever it is, the log tells it in its own form
        logger.opt(exception=True).critical("the gateway cannot serve, for what `exception` tells")
        return process.CANNOT_START
    return process.OK if server.started else process.CANNOT_START


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
        raise _taken(host, port)
    if errno.EACCES in numbers:
        raise CannotListen(_PORT, host, port, "not permitted. Choose a port from 1024 on")
    # A name may stand for several addresses, of which this machine has some.
    if numbers and all(failures):
        reason = "it is no address of this machine. Write one that is, or 0.0.0.0 for all"
        raise CannotListen(_HOST, host, port, reason)


def _taken(host: str, port: int) -> CannotListen:
    another = 8001 if port == 8000 else 8000
    reason = f"another program does already. Stop it, or choose another port: {_PORT.name}={another}"
    return CannotListen(_PORT, host, port, reason)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls its limit infinite and refuses it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
