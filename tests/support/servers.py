"""Real Redis and RabbitMQ servers for tests, started from the installed binaries and ended with the test run.

Each server has a directory of its own and a free port of 127.0.0.1, and touches no other server on the machine. Tests
may stop, kill and pause it; ``start`` after ``stop`` or ``kill`` brings it back on the same port with the same data.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import pytest

HOST = "127.0.0.1"

# Where Debian and Homebrew put RabbitMQ. tests/install-servers.sh looks in the same places.
RABBITMQ_FOLDERS = [
    Path("/usr/lib/rabbitmq/bin"),
    Path("/opt/homebrew/opt/rabbitmq/sbin"),
    Path("/usr/local/opt/rabbitmq/sbin"),
]

# Where programs are looked for first: other versions than the installed ones (tests/versions).
OTHER_PROGRAMS = "TEST_SERVERS_FROM"

# Listens until the test process is gone, however it went (kill -9 included), then ends what that has left: each line it
# reads is the list of process groups that now live, and the end of the input is the end of the test process.
GUARD = """
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$1"
"""


_CHANCE = random.SystemRandom()
# The ports that were given to anybody.
_GIVEN: set[int] = set()


class ServerMissing(Exception):
    """A server is not installed. The message says what to install."""


class Server(ABC):
    """A server of our own: ``url`` where it is reached, ``directory`` where it keeps its data and its ``log``."""

    start_within_seconds = 30.0
    stop_within_seconds = 10.0

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"test-{type(self).__name__}-"))
        self.log = self.directory / "server.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal must not end it before the servers.
        )

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the processes; the one that serves is called ``server``."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether clients are served now. May raise OSError instead of returning False."""

    @property
    def pid(self) -> int:
        """The id of the process that serves, which leads a process group of its own."""
        return self._processes["server"].pid

    def is_running(self) -> bool:
        """Whether the process that serves lives, paused or not."""
        return "server" in self._processes and self._processes["server"].poll() is None

    def start(self) -> Self:
        """Start it where it does not run, and return when it serves. Raises RuntimeError with the end of its log."""
        if self.is_running():
            return self
        self._launch()
        deadline = time.monotonic() + self.start_within_seconds
        while time.monotonic() < deadline and self.is_running():
            with contextlib.suppress(OSError):
                if self._answers():
                    return self
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"{type(self).__name__} did not start; its log ends in:\n{self._log_tail()}")

    def stop(self) -> None:
        """End it as an operator does, by SIGTERM; by SIGKILL when it takes too long. Data and port are kept."""
        if self.is_running():
            self._signal(signal.SIGTERM)
            self.resume()  # A stopped process does not hear SIGTERM.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes["server"].wait(self.stop_within_seconds)
        self.kill()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash does. Data and port are kept."""
        if self.is_running():
            self._signal(signal.SIGKILL)
        self._reap("server")

    def restart(self) -> None:
        """Stop it and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the serving process in its tracks (SIGSTOP): connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)
        # The signal takes its time, in which the server would still answer.
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Paused inside the ``with``, and going on after it whatever happens there."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """Stop it for good and remove its data."""
        self.stop()
        for name in list(self._processes):
            os.killpg(self._processes[name].pid, signal.SIGKILL)
            self._reap(name)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _spawn(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.directory,
                start_new_session=True,
            )
        self._tell_guard()

    def _reap(self, name: str) -> None:
        if name in self._processes:
            self._processes.pop(name).wait()
            self._tell_guard()

    def _tell_guard(self) -> None:
        groups = " ".join(str(process.pid) for process in self._processes.values())
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{groups}\n".encode())
        self._guard.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.pid, number)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


S = TypeVar("S")


class RedisServer(Server):
    """A Redis that appends every write to a file, flushed every second: the gateway's advice for real use.

    ``options`` are further ones, each as in redis.conf but for underscores.
    """

    def __init__(self, **options: str) -> None:
        self._binary = redis_binary()
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        super().__init__()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://{HOST}:{self.port}/0"

    def _launch(self) -> None:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            **self._options,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", *value.split(" "))]
        self._spawn("server", [self._binary, *words])

    def _answers(self) -> bool:
        return exchange(self.port, b"PING\r\n").startswith(b"+PONG")


class RabbitServer(Server):
    """A RabbitMQ node without plugins, with an Erlang port mapper of its own. Takes about 12 seconds to start.

    Its messages lie in ``data``, by default a folder in its own.
    """

    start_within_seconds = 120.0
    stop_within_seconds = 30.0

    def __init__(self, data: Path | None = None) -> None:
        self._programs = rabbitmq_programs()
        self._epmd = epmd_binary()
        super().__init__()
        self._data = data or self.directory / "data"
        self.node = f"test{self.port}@localhost"
        self._epmd_port = free_port()
        self._env = self._environment()

    @property
    def url(self) -> str:
        """Where clients connect: the default virtual host, as its default user."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    def ctl(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` prints when it is run against this node. Raises RuntimeError with its complaint."""
        done = subprocess.run(
            [self._programs / "rabbitmqctl", "--quiet", "--node", self.node, *arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def evaluate(self, expression: str) -> str:
        """What the node makes of an Erlang expression. Raises RuntimeError with its complaint.

        In milliseconds where Erlang's ``erl_call`` is installed; ``ctl`` starts an Erlang of its own, which takes
        seconds, and on a busy machine a minute.
        """
        erl_call = self._epmd.with_name("erl_call")
        if not erl_call.exists():
            return self.ctl("eval", f"{expression}.")
        cookie = (self.directory / ".erlang.cookie").read_text(encoding="ascii")
        done = subprocess.run(
            [erl_call, "-sname", self.node, "-c", cookie, "-e"],
            env=self._env,
            input=f"{expression}.\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "failed to connect" in done.stderr:
            # A node with much to do may not take its handshake in time.
            return self.ctl("eval", f"{expression}.")
        if done.returncode or not done.stdout.startswith("{ok, "):
            raise RuntimeError(f"{expression}: {done.stdout}{done.stderr}")
        return done.stdout.removeprefix("{ok, ").removesuffix("}")

    def write_down_queues(self) -> None:
        """Have it write down where its quorum queues lie, which by itself it does seconds after a queue is declared.

        To be called before a node is killed. One that crashes in between finds a queue's messages no more, and the
        queue has no leader ever again: https://github.com/rabbitmq/rabbitmq-server/issues/15725
        """
        self.evaluate("ok = mnesia:sync_log(), [ok = dets:sync(Table) || Table <- dets:all()]")

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))
        }
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        config = self.directory / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.default = {HOST}:{self.port}\nlog.console = true\nlog.file = false\n"
        )
        return inherited | {
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "HOME": str(self.directory),  # Where the cookie lies that lets only us in.
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),  # Not the machine's.
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(self.directory / "server.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            # Makes the script become the server instead of waiting beside it, so that our signals reach the server.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _launch(self) -> None:
        if "epmd" not in self._processes:
            # Started by us, or else the node would leave one behind as a daemon.
            self._spawn("epmd", [self._epmd, "-address", HOST, "-port", str(self._epmd_port)], self._env)
            for _ in range(250):
                if accepts(self._epmd_port):
                    break
                time.sleep(0.02)
        self._spawn("server", [self._programs / "rabbitmq-server"], self._env)

    def _answers(self) -> bool:
        # The first frame of an AMQP 0-9-1 server is a method frame, of type 1, on channel 0.
        if not exchange(self.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01\x00\x00"):
            return False
        try:
            return self.evaluate("rabbit:is_booted()") == "true"
        except RuntimeError:
            self.ctl("await_startup", "--timeout", str(int(self.start_within_seconds)))
        return True


def installed(kind: Callable[[], S]) -> S:
    """A server, not yet started, or a program. Where it is not installed the test is skipped, but never in CI."""
    try:
        return kind()
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def redis_binary() -> Path:
    """The installed ``redis-server``."""
    if found := _other("redis-server") or shutil.which("redis-server"):
        return Path(found)
    raise ServerMissing("redis-server is not installed: run `sh tests/install-servers.sh`")


def rabbitmq_programs() -> Path:
    """The folder that holds RabbitMQ's own ``rabbitmq-server`` and ``rabbitmqctl``.

    What Debian puts on the PATH are wrappers around these, which change to the user and the settings of the system's
    own server.
    """
    if other := _other("rabbitmq-server"):
        return Path(other).parent
    candidates = list(RABBITMQ_FOLDERS)
    if found := shutil.which("rabbitmq-server"):
        candidates.append(Path(found).resolve().parent)
    for folder in candidates:
        if (folder / "rabbitmq-server").exists():
            return folder
    raise ServerMissing("rabbitmq-server is not installed: run `sh tests/install-servers.sh`")


def epmd_binary() -> Path:
    """Erlang's port mapper, which comes with the Erlang that RabbitMQ runs on."""
    if found := _other("epmd") or shutil.which("epmd"):
        return Path(found)
    for root in (
        "/usr/lib/erlang",
        "/opt/homebrew/opt/erlang/lib/erlang",
        "/usr/local/opt/erlang/lib/erlang",
    ):
        for binary in sorted(Path(root).glob("erts-*/bin/epmd")):
            return binary
    raise ServerMissing("epmd (Erlang) is not installed: run `sh tests/install-servers.sh`")


def _other(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get(OTHER_PROGRAMS, ""))


def free_port() -> int:
    """A port of 127.0.0.1 that is free now and is given to no outgoing connection, so that a restart finds it free.

    Each of the processes among which pytest-xdist deals the tests draws from ports of its own, and gives none twice:
    whoever was given one may not listen on it yet.
    """
    # Below the ports that Linux (32768 and up) and macOS (49152 and up) give to outgoing connections.
    lowest, highest = 20000, 32768
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        # The module's own generator would begin anew in every example of Hypothesis.
        port = _CHANCE.randrange(lowest + worker, highest, workers)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def exchange(port: int, request: bytes, timeout_seconds: float = 2.0) -> bytes:
    """The first bytes that a server answers to the first bytes of a client. Raises OSError."""
    with socket.create_connection((HOST, port), timeout=timeout_seconds) as connection:
        connection.sendall(request)
        return connection.recv(64)
