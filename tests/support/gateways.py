"""The gateway as users start it: a process of its own, on a free port, with its logs and its queue at hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.broker import consume
from tests.support.servers import free_port

SEND = "/api/v1/sms/send"
TEXT = "A text that may stand nowhere but in the envelope"
NUMBER = "+989121234567"

# Each client's key is its name followed by this, so that tests can tell one from the other.
KEY_TAIL = "-0123456789-secret-tail"

CLIENTS: dict[str, dict[str, Any]] = {
    "acme": {},
    "other": {},
    "gone": {"is_active": False},
    "small": {"daily_quota": 3},
    "crowd": {"daily_quota": 99},
    "refunded": {"daily_quota": 2},
    "nothing": {"daily_quota": 0},
    "keyed": {"daily_quota": 5},
    "Øre & {Co}": {"daily_quota": 2},
}

PROVIDERS: dict[str, dict[str, Any]] = {
    "alpha": {"aliases": ["a", "First"]},
    "beta": {"aliases": ["b"], "note": "the second"},
    "off": {"is_active": False},
    "down": {"is_operational": False, "aliases": ["broken"]},
}


def key_of(client: str) -> str:
    """The API key of one of ``CLIENTS``; ASCII, whatever the name."""
    return client.encode("ascii", "ignore").decode().replace(" ", "") + KEY_TAIL


def client_config() -> dict[str, dict[str, Any]]:
    """``CLIENTS`` as CLIENT_CONFIG, and a second key for ``acme``: that is how a key is rotated."""
    document = {key_of(name): {"name": name, **entry} for name, entry in CLIENTS.items()}
    document[key_of("acme-rotated")] = {"name": "acme"}
    return document


@dataclass
class Backend:
    """Where a gateway keeps its state: its two URLs, and how to read what it stored."""

    name: str
    redis_url: str
    rabbitmq_url: str
    queue: str = field(default_factory=lambda: f"sms.{uuid.uuid4().hex[:8]}")

    def environ(self) -> dict[str, str]:
        """The variables that point a gateway here; names on the broker are this backend's own."""
        return {
            "REDIS_URL": self.redis_url,
            "RABBITMQ_URL": self.rabbitmq_url,
            "RABBITMQ_EXCHANGE": self.queue,
            "RABBITMQ_QUEUE": self.queue,
            "RABBITMQ_HEARTBEAT_EXCHANGE": f"{self.queue}.heartbeat",
            "RABBITMQ_HEARTBEAT_QUEUE": f"{self.queue}.heartbeat",
            # Claims have no prefix of their own: tests use keys and clients of their own instead.
            "QUOTA_PREFIX": self.queue,
        }

    def take_all(self) -> list[dict[str, Any]]:
        """Take everything off the queue, in order: the envelopes as JSON."""
        if self.rabbitmq_url.startswith("embedded:"):
            return self._take_from_file()
        return [json.loads(body) for _, body in asyncio.run(consume(self.rabbitmq_url, self.queue))]

    def _take_from_file(self) -> list[dict[str, Any]]:
        path = self.rabbitmq_url.removeprefix("embedded:")
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            rows = connection.execute("DELETE FROM messages RETURNING position, body").fetchall()
        return [json.loads(body) for _, body in sorted(rows)]


class Gateway:
    """One running gateway. ``environ`` is all it sees of the environment besides what Python needs."""

    def __init__(self, directory: Path, environ: Mapping[str, str], workers: int = 1) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "PATH": os.environ["PATH"],
            "SERVER_A_HOST": "127.0.0.1",
            "SERVER_A_PORT": str(self.port),
            "CLIENT_CONFIG": json.dumps(client_config()),
            "PROVIDERS_CONFIG": json.dumps(PROVIDERS),
            **environ,
        }
        self.command = [sys.executable, "-m", "gateway", "serve", "--workers", str(workers)]
        self.log_path = directory / f"gateway-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=50))

    def start(self, *, ready: bool = True) -> Self:
        """Start it and wait until it serves; with ``ready``, until its store and broker answer too."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env={"PYTHONPATH": str(Path(__file__).parents[2]), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait("/readyz" if ready else "/healthz")
        return self

    def wait(self, path: str, status: int = 200, seconds: float = 30) -> httpx.Response:
        """Ask for ``path`` until it answers with ``status``."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                answer = self.http.get(path)
                last = answer.text
                if answer.status_code == status:
                    return answer
            except httpx.TransportError as error:
                last = error
            time.sleep(0.05)
        raise AssertionError(f"{path} did not become {status}: {last}\n{self.log_text()[-4000:]}")

    def send(self, client: str | None = "acme", key: str | None = None, **body: Any) -> httpx.Response:
        """Send a message as ``client``; ``body`` overrides the valid one."""
        headers = {} if client is None else {"API-Key": key_of(client)}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.post(SEND, json={"to": NUMBER, "text": TEXT, **body}, headers=headers)

    def send_until_served(self, client: str = "acme", key: str | None = None, **body: Any) -> httpx.Response:
        """Send as a patient sender does: SERVICE_UNAVAILABLE says that nothing was sent, so it is tried again.

        For tests with many requests at once: on a busy machine a call of the store may miss its 250 ms.
        """
        deadline = time.monotonic() + 30
        while True:
            answer = self.send(client, key, **body)
            is_refused = answer.status_code == 503 and answer.json()["error_code"] == "SERVICE_UNAVAILABLE"
            if not is_refused or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def log_text(self) -> str:
        """Everything it has printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Its log, line by line, whatever it has answered included: lines leave at the end of a turn of its loop."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                self.http.get("/healthz", timeout=1)
        return [json.loads(line) for line in self.log_text().splitlines()]

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, as an operator ends it; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()


@contextlib.contextmanager
def raw_connection(gateway: Gateway, seconds: float = 20) -> Iterator[socket.socket]:
    """A socket to the gateway, for what no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=seconds) as connection:
        yield connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer off a socket: status, headers by lower-case name, body."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"closed after {data!r}")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body
