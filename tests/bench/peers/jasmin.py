"""Jasmin, started as its manual says: ``jasmind.py``, a Redis and a RabbitMQ of its own, set up over its console.

Its connector to an SMSC is set up and not started. What it accepts then waits on the connector's queue, as what we
accept waits for Server B: the figures are those of accepting alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

import aiormq
import httpx

from tests.bench.cases import TEXT
from tests.bench.peers.peer import INSTALL, NAME, PASSWORD, SENDER, PeerMissing
from tests.bench.wrk import Load
from tests.support.gateways import NUMBER
from tests.support.servers import HOST, RabbitServer, RedisServer, Server, accepts, free_port

# Where tests/bench/install-peers.sh puts it.
_FOLDER = Path(__file__).parents[3] / ".venv" / "jasmin"
_PYTHON = _FOLDER / "bin" / "python"
_PROGRAM = _FOLDER / "bin" / "jasmind.py"
# Its path is written into jasmind: there is one on a machine.
_LOCK = Path("/tmp/jasmind.lock")  # noqa: S108
_SETTLE_SECONDS = 10.0
_CONSOLE_SECONDS = 20.0
_CONNECTOR = "smsc"

# All the rest is as it comes. The package lacks the file that describes AMQP; the library that reads it has one.
_CONFIGURATION = """\
[smpp-server]
bind = {host}
port = {smpp}
[smpp-server-pb]
bind = {host}
port = {smpp_pb}
[client-management]
bind = {host}
port = {clients}
[router]
bind = {host}
port = {router}
[jcli]
bind = {host}
port = {console}
authentication = False
[http-api]
bind = {host}
port = {port}
[amqp-broker]
host = {host}
port = {broker}
spec = {spec}
[redis-client]
host = {host}
port = {store}
"""

# As "Sending your first SMS" of its manual, with a quota of messages besides, as our client has one.
_SET_UP = (
    ("group -a", "gid senders", "ok"),
    (
        "user -a",
        f"uid {NAME}",
        "gid senders",
        f"username {NAME}",
        f"password {PASSWORD}",
        "mt_messaging_cred quota sms_count 1000000000",
        "ok",
    ),
    ("smppccm -a", f"cid {_CONNECTOR}", "ok"),
    ("mtrouter -a", "type defaultroute", f"connector smppc({_CONNECTOR})", "rate 0.0", "ok"),
)


class Jasmin(Server):
    """One jasmind on a Redis and a RabbitMQ that run already."""

    accepted_status = 200

    def __init__(self, store: RedisServer, broker: RabbitServer) -> None:
        if not _PROGRAM.exists():
            raise PeerMissing(f"Jasmin is not installed: {INSTALL}")
        if _LOCK.exists():
            raise PeerMissing(f"a jasmind runs here; if none does, one was killed: remove {_LOCK}")
        super().__init__()
        self._store = store
        self._broker = broker
        self._console = free_port()

    @property
    def url(self) -> str:
        """Where it takes messages by HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def load(self) -> Load:
        """The send of the manual: a GET with everything in its query."""
        query = {"username": NAME, "password": PASSWORD, "from": SENDER, "to": NUMBER, "content": TEXT}
        return Load({}, "", method="GET", path=f"/send?{urlencode(query)}")

    @property
    def pids(self) -> Sequence[int]:
        """The one process."""
        return [self.pid]

    @property
    def servers(self) -> Sequence[int]:
        """Its Redis and its RabbitMQ."""
        return [self._store.pid, self._broker.pid]

    def set_up(self) -> None:
        """Make a user, a connector and a route to it over the console. Raises RuntimeError with what it refused."""
        with socket.create_connection((HOST, self._console), timeout=_CONSOLE_SECONDS) as console:
            for dialogue in _SET_UP:
                printed = ""
                for line in dialogue:
                    console.sendall(f"{line}\r\n".encode())
                    printed = _until_prompt(console)
                if "Successfully" not in printed:
                    raise RuntimeError(f"Jasmin refused '{dialogue[0]}': {printed.strip()}")

    def take(self, expected: int) -> int:
        """How many were on the connector's queue, which is empty after it."""
        taken = 0
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            time.sleep(0.3)
            purged = asyncio.run(self._purge())
            taken += purged
            if not purged and (taken >= expected or time.monotonic() > deadline):
                return taken

    def configuration(self) -> str:
        """What stands in its configuration file."""
        (spec,) = _FOLDER.glob("lib/*/site-packages/txamqp/specs/standard/amqp0-9-1.stripped.xml")
        return _CONFIGURATION.format(
            host=HOST,
            port=self.port,
            console=self._console,
            smpp=free_port(),
            smpp_pb=free_port(),
            clients=free_port(),
            router=free_port(),
            broker=self._broker.port,
            store=self._store.port,
            spec=spec,
        )

    def _launch(self) -> None:
        file = self.directory / "jasmin.cfg"
        file.write_text(self.configuration(), encoding="utf-8")
        (self.directory / "store").mkdir(exist_ok=True)
        environ = {"LOG_PATH": str(self.directory), "CONFIG_PATH": str(self.directory)}
        options = ["--config", str(file), "--username", "jcliadmin", "--password", "jclipwd"]
        self._spawn("server", [_PYTHON, _PROGRAM, *options], environ)

    def _answers(self) -> bool:
        try:
            is_serving = httpx.get(f"{self.url}/ping", timeout=5).text == "Jasmin/PONG"
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        return is_serving and accepts(self._console)

    async def _purge(self) -> int:
        connection = await aiormq.connect(self._broker.url)
        try:
            channel = await connection.channel()
            purged = await channel.queue_purge(f"submit.sm.{_CONNECTOR}")
            return purged.message_count or 0
        finally:
            await connection.close()


@contextlib.contextmanager
def serving() -> Iterator[Jasmin]:
    """A Jasmin that accepts messages, with a Redis and a RabbitMQ that it shares with nobody."""
    if not _PROGRAM.exists():
        # Before anything is started for it.
        raise PeerMissing(f"Jasmin is not installed: {INSTALL}")
    with RedisServer() as store, RabbitServer() as broker, Jasmin(store, broker) as jasmin:
        jasmin.set_up()
        yield jasmin


def version() -> str | None:
    """Of the installed Jasmin, and of the Python that runs it, or None."""
    if not _PYTHON.exists():
        return None
    script = (
        "from importlib.metadata import version; import platform;"
        "print(version('jasmin'), 'on python', platform.python_version())"
    )
    done = subprocess.run([_PYTHON, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() or None


def _until_prompt(console: socket.socket) -> str:
    printed = b""
    while not printed.endswith((b"jcli : ", b"> ")):
        received = console.recv(4096)
        if not received:
            raise RuntimeError(f"Jasmin's console hung up after {printed.decode(errors='replace')!r}")
        printed += received
    return printed.decode(errors="replace")
