"""Whose disk it is: the gateway's own files, Redis' or RabbitMQ's, and what else runs beside it on disks that stay."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import httpx

from tests.faults.proxy import Proxy
from tests.power.load import API_KEY
from tests.power.machine import Machine
from tests.support.gateways import Backend, Gateway
from tests.support.scrape import value
from tests.support.servers import RabbitServer, RedisServer
from tests.support.waiting import until

Arrived = Counter[tuple[str, str]]
"""How often a tracking_id and its text were found where Server B looks."""

_PATIENT_SECONDS = 120.0


class WillNotStart(Exception):
    """What a cut left is more than the server can recover from by itself."""


class Subject(ABC):
    """A gateway, and the machine whose power is cut. ``directory`` is on a disk that stays."""

    room_mib: ClassVar[int] = 65536
    is_cut_in_its_start: ClassVar[bool] = False
    """Whether the power may go again while it starts."""

    def __init__(self, machine: Machine, directory: Path, quota: int, workers: int = 1) -> None:
        self.machine = machine
        self.directory = directory
        self.arrived: Arrived = Counter()
        self.repaired = 0
        clients = {API_KEY: {"name": "power", "daily_quota": quota}}
        environ = {**self.environ(), "CLIENT_CONFIG": json.dumps(clients)}
        self.gateway = Gateway(directory, environ, workers)

    @abstractmethod
    def environ(self) -> dict[str, str]:
        """The variables that point the gateway to its store and its outbox."""

    @abstractmethod
    def start(self) -> None:
        """Start all that runs on the machine, which is on, and wait until the gateway serves."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The processes that run on the machine."""

    @abstractmethod
    def kill(self) -> None:
        """End them, or take note that they have ended."""

    @abstractmethod
    def collect(self) -> None:
        """Bring ``arrived`` up to date with what was stored for Server B."""

    @contextlib.contextmanager
    def disturbed(self, _chance: random.Random) -> Iterator[None]:
        """What else happens while there is load."""
        yield

    def close(self) -> None:
        """End everything."""
        kill_with_children(self.gateway)
        self.gateway.http.close()


class _Gateway(Subject):
    """Nothing but the gateway is on the machine."""

    # So small that its log is written back to the file after every 128 pages.
    room_mib = 16
    is_cut_in_its_start = True

    def pids(self) -> list[int]:
        """The gateway's, its workers' included."""
        return family(self.gateway)

    def kill(self) -> None:
        """The gateway."""
        kill_with_children(self.gateway)


class Embedded(_Gateway):
    """Store and outbox in one file on the disk, in a folder that the gateway makes itself."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.machine.path / "var" / "gateway.db"

    def environ(self) -> dict[str, str]:
        """Both URLs name the file."""
        return Backend("embedded", f"embedded:{self.path}", f"embedded:{self.path}").environ()

    def start(self) -> None:
        """The gateway alone."""
        self.gateway.start()

    def collect(self) -> None:
        """Everything is still in the file: nobody takes anything."""
        self.arrived = read_messages(self.path)

    def broken_by(self, synchronous: str) -> None:
        """Have it run with another ``PRAGMA synchronous`` than it asks for."""
        at = self.gateway.command.index("gateway")
        self.gateway.command[at : at + 1] = ["tests.power.broken", synchronous]


class Spool(_Gateway):
    """Spool and embedded store on the disk; RabbitMQ is elsewhere, and the way to it is cut now and then."""

    def __init__(
        self, machine: Machine, directory: Path, quota: int, rabbit: RabbitServer, workers: int = 1
    ) -> None:
        self.rabbit = rabbit
        self.proxy = Proxy(rabbit.port)
        self.proxy.__enter__()
        store = f"embedded:{machine.path / 'var' / 'gateway.db'}"
        url = f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/"
        self.backend = Backend("spool", store, url)
        super().__init__(machine, directory, quota, workers)

    def environ(self) -> dict[str, str]:
        """The spool in a folder that the gateway makes itself."""
        return {**self.backend.environ(), "RABBITMQ_SPOOL": str(self.machine.path / "spool" / "spool.db")}

    def start(self) -> None:
        """The gateway; RabbitMQ can be reached again."""
        self.proxy.heal()
        self.gateway.start()

    def collect(self) -> None:
        """When the spool is empty, what is on the queue."""
        self.proxy.heal()
        until(self._is_empty, "an empty spool", _PATIENT_SECONDS, passing_over=httpx.TransportError)
        self.arrived += take(Backend("spool", "", self.rabbit.url, self.backend.queue))

    @contextlib.contextmanager
    def disturbed(self, chance: random.Random) -> Iterator[None]:
        """RabbitMQ comes and goes."""
        ended = threading.Event()

        def come_and_go() -> None:
            while True:
                self.proxy.refuse()
                self.proxy.cut()
                if ended.wait(chance.uniform(0.2, 1.5)):
                    break
                self.proxy.heal()
                if ended.wait(chance.uniform(0.2, 1.5)):
                    break

        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """The proxy, too."""
        super().close()
        self.proxy.__exit__(None, None, None)

    def _is_empty(self) -> bool:
        return self.gateway.http.get("/readyz").json()["status"] == "ready" and not value(
            self.gateway, "sms_spool_messages"
        )


class Redis(Subject):
    """Redis on the disk; the gateway and its outbox, an embedded file, are elsewhere and live on."""

    def __init__(self, machine: Machine, directory: Path, quota: int, appendfsync: str) -> None:
        self.redis = RedisServer(dir=str(machine.path), appendfsync=appendfsync)
        self.outbox = directory / "outbox.db"
        super().__init__(machine, directory, quota)

    def environ(self) -> dict[str, str]:
        """Claims and quotas in Redis."""
        return Backend("redis", self.redis.url, f"embedded:{self.outbox}").environ()

    def start(self) -> None:
        """Redis, with its file repaired as its error says where it will not start with it; and the gateway, once.

        What it has set up is on the disk before there is load: it is minutes old. Redis itself does not sync the name
        of the folder that it makes for its files.
        """
        try:
            self.redis.start()
        except RuntimeError as error:
            if "redis-check-aof --fix" not in str(error):
                raise
            self.repaired += 1
            for part in (self.machine.path / "appendonlydir").glob("*.incr.aof"):
                subprocess.run(
                    ["redis-check-aof", "--fix", str(part)], input=b"y\n", capture_output=True, check=True
                )
            self.redis.start()
        self.machine.sync()
        start_or_wait(self.gateway)

    def pids(self) -> list[int]:
        """Redis's."""
        return [self.redis.pid]

    def kill(self) -> None:
        """Redis."""
        self.redis.kill()

    def collect(self) -> None:
        """What is in the outbox."""
        self.arrived = read_messages(self.outbox)

    def close(self) -> None:
        """Redis, too."""
        super().close()
        self.redis.close()


class Rabbit(Subject):
    """RabbitMQ on the disk; the gateway and its store, an embedded file, are elsewhere and live on."""

    def __init__(self, machine: Machine, directory: Path, quota: int, queue_type: str) -> None:
        self.rabbit = RabbitServer(machine.path / "data")
        self.backend = Backend("rabbit", f"embedded:{directory / 'store.db'}", self.rabbit.url)
        self.queue_type = queue_type
        super().__init__(machine, directory, quota)

    def environ(self) -> dict[str, str]:
        """The outbox on RabbitMQ."""
        return {**self.backend.environ(), "RABBITMQ_QUEUE_TYPE": self.queue_type}

    def start(self) -> None:
        """RabbitMQ and, once, the gateway. What they set up is on the disk before there is load: it is minutes old."""
        try:
            self.rabbit.start()
        except RuntimeError as error:
            raise WillNotStart("RabbitMQ") from error
        start_or_wait(self.gateway)
        self.rabbit.write_down_queues()
        self.machine.sync()

    def pids(self) -> list[int]:
        """RabbitMQ's."""
        return [self.rabbit.pid]

    def kill(self) -> None:
        """RabbitMQ."""
        self.rabbit.kill()

    def collect(self) -> None:
        """What is on the queue."""
        self.arrived += take(self.backend)

    def close(self) -> None:
        """RabbitMQ, too."""
        super().close()
        self.rabbit.close()


def take(backend: Backend) -> Arrived:
    """Take everything off the queue."""
    return Counter((envelope["tracking_id"], envelope["text"]) for envelope in backend.take_all())


def read_messages(path: Path) -> Arrived:
    """What is in an embedded outbox. The file is whole, or this fails."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM messages")]
    return Counter((body["tracking_id"], body["text"]) for body in bodies)


def start_or_wait(gateway: Gateway) -> None:
    """Start the gateway unless it runs, and wait until it is ready."""
    if gateway.process is None:
        gateway.start()
    else:
        gateway.wait("/readyz", seconds=_PATIENT_SECONDS)


def kill_with_children(gateway: Gateway) -> None:
    """SIGKILL to the gateway and its workers."""
    for pid in reversed(family(gateway)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if gateway.process is not None:
        gateway.process.wait()


def family(gateway: Gateway) -> list[int]:
    """The processes of the gateway and, after it, of its workers; none when it has ended."""
    if gateway.process is None or gateway.process.poll() is not None:
        return []
    return _with_children(gateway.process.pid)


def _with_children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(member for child in children for member in _with_children(child))]
