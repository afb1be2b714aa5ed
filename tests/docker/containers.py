"""A container as its operator sees it: its state, its health, its logs, and commands inside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.docker.engine import docker, run
from tests.support.waiting import until

# What compose.yml gives the gateway, for a container that is started without it.
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true")


@dataclass(frozen=True)
class Container:
    """A container, running or not, by its name or id."""

    name: str

    @property
    def state(self) -> dict[str, Any]:
        """Its state as ``docker inspect`` has it: ``Status``, ``ExitCode``, ``OOMKilled``, ``Health``."""
        state: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.name))
        return state

    @property
    def starts(self) -> str:
        """When it was started last: another one after each start."""
        return str(self.state["StartedAt"])

    def wait_until_healthy(self, seconds: float = 180) -> None:
        """Return when its health check says so. Raises AssertionError with its log when it ends, or does not."""

        def healthy() -> bool:
            state = self.state
            assert state["Status"] in {"created", "running", "restarting"}, f"{state}\n{self.log()[-4000:]}"
            return bool(state.get("Health", {}).get("Status") == "healthy")

        try:
            until(healthy, f"{self.name} healthy", seconds, every_seconds=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from error

    def stop(self, grace_seconds: int | None = None) -> int:
        """SIGTERM, and SIGKILL after its grace; returns the exit code."""
        docker("stop", *([] if grace_seconds is None else ["-t", str(grace_seconds)]), self.name)
        return int(self.state["ExitCode"])

    def execute(self, *command: str) -> str:
        """What a command in it prints. Raises AssertionError when it fails."""
        return docker("exec", self.name, *command)

    def try_to(self, *command: str) -> bool:
        """Whether a command in it succeeds."""
        return run(["docker", "exec", self.name, *command], check=False).returncode == 0

    def log(self) -> str:
        """All that it has printed."""
        done = run(["docker", "logs", self.name])
        return done.stdout + done.stderr

    def remove(self) -> None:
        """End it at once and remove it, if it is there."""
        run(["docker", "rm", "--force", "--volumes", self.name], check=False)
