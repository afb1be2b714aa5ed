"""The services of compose.yml, under a project's name and on ports of the tests' own."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.docker.containers import Container
from tests.docker.engine import Engine, run
from tests.support.gateways import NUMBER, PROVIDERS, SEND, TEXT, client_config, key_of
from tests.support.servers import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "redis", "rabbitmq")
QUEUE = "sms.outbound"
USER, PASSWORD = "gateway", "s3cr3t"
AMQP_PORT = 5672


class Stack:
    """The three services. What is changed of compose.yml is the image, the name, and the ports of this machine."""

    def __init__(self, engine: Engine, image: str, directory: Path) -> None:
        self.engine = engine
        self.project = f"sms-gateway-test-{secrets.token_hex(4)}"
        self.file = directory / "compose.yml"
        compose = yaml.safe_load((ROOT / "compose.yml").read_text())
        del compose["name"]  # It is the caller's own installation; docker-compose 1 does not know it at all.
        del compose["services"]["gateway"]["build"]
        compose["services"]["gateway"]["image"] = image
        self.images = {name: service["image"] for name, service in compose["services"].items()}
        self._ports: dict[int, int] = {}
        for service in compose["services"].values():
            service["ports"] = [self._own(port) for port in service.get("ports", [])]
        self.file.write_text(yaml.safe_dump(compose))
        self.url = f"http://127.0.0.1:{self._ports[8000]}"
        self.amqp_url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self._ports[AMQP_PORT]}/"
        self._env = {
            name: value
            for name, value in os.environ.items()
            if name in {"HOME", "PATH"} or name.startswith("DOCKER_")
        } | {
            "REDIS_PASSWORD": PASSWORD,
            "RABBITMQ_USER": USER,
            "RABBITMQ_PASSWORD": PASSWORD,
            "CLIENT_CONFIG": json.dumps(client_config()),
            "PROVIDERS_CONFIG": json.dumps(PROVIDERS),
        }

    def _own(self, published: str) -> str:
        address, inside = published.partition(":")[0], published.rpartition(":")[2]
        self._ports[int(inside)] = free_port()
        return f"{address}:{self._ports[int(inside)]}:{inside}"

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        """What a command of Compose prints on standard output."""
        command = [*self.engine.compose, "--project-name", self.project, "--file", str(self.file), *arguments]
        return run(command, env=self._env, seconds=seconds).stdout

    def up(self) -> None:
        """Start what does not run, and return when all are healthy."""
        self.compose("up", "--detach", *([] if self.engine.is_compose_v1 else ["--wait"]))
        for service in SERVICES:
            self[service].wait_until_healthy()

    def __getitem__(self, service: str) -> Container:
        """The container of a service, running or not."""
        return Container(self.compose("ps", "--all", "--quiet", service).strip())

    def volumes(self) -> set[str]:
        """The names of its volumes."""
        label = f"label=com.docker.compose.project={self.project}"
        return set(run(["docker", "volume", "ls", "--quiet", "--filter", label]).stdout.split())

    def send(self, key: str, **body: Any) -> httpx.Response:
        """Send a message with this Idempotency-Key."""
        headers = {"API-Key": key_of("acme"), "Idempotency-Key": key}
        return httpx.post(
            self.url + SEND, json={"to": NUMBER, "text": TEXT, **body}, headers=headers, timeout=30
        )

    def is_ready(self) -> bool:
        """Whether the gateway has its store and its broker. Raises httpx.TransportError when it is away."""
        return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200

    def log_text(self) -> str:
        """What the gateway has printed."""
        return self["gateway"].log()

    def remove(self) -> None:
        """Remove its containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "1")
