"""The Docker engine that there is: its client, its Compose, and what they can do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

# The first of these that works is taken.
COMPOSE = (("docker", "compose"), ("docker-compose",))


class EngineMissing(Exception):
    """No Docker engine, or no Compose. The message says what to do."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers. The client finds it as it always does: DOCKER_HOST, the context, the usual socket."""

    version: str
    compose: tuple[str, ...]
    compose_version: str

    @classmethod
    def find(cls) -> Self:
        """The engine and its Compose. Raises ``EngineMissing``."""
        if shutil.which("docker") is None:
            raise EngineMissing("docker is not installed: install a Docker engine with Compose")
        asked = run(["docker", "version", "--format", "{{.Server.Version}}"], check=False)
        if asked.returncode:
            raise EngineMissing(f"start one, or let DOCKER_HOST name it: {last_line(asked.stderr)}")
        for compose in COMPOSE:
            if shutil.which(compose[0]):
                found = run([*compose, "version", "--short"], check=False)
                if found.returncode == 0:
                    return cls(asked.stdout.strip(), compose, found.stdout.strip().removeprefix("v"))
        raise EngineMissing("neither `docker compose` nor `docker-compose` works: install Compose")

    @property
    def is_compose_v1(self) -> bool:
        """Whether Compose is the old one, which has neither ``up --wait`` nor a project's name in its file."""
        return self.compose_version.startswith("1.")


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    seconds: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command. Raises AssertionError with all that it printed when it fails and that is not expected."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=env,
        timeout=seconds,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def docker(*arguments: str, seconds: float = 120) -> str:
    """What a command of docker prints on standard output, without its last line's end."""
    return run(["docker", *arguments], seconds=seconds).stdout.strip()


def last_line(text: str) -> str:
    """The last line that says anything."""
    return ([line for line in text.splitlines() if line.strip()] or ["it said nothing"])[-1]
