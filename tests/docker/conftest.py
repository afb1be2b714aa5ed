"""One image for all tests, built on whatever engine there is, and at the end a word on what that was."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator

import pytest

from tests.docker.containers import Container
from tests.docker.engine import Engine, EngineMissing, docker
from tests.docker.stack import ROOT, Stack

# Kept after the tests, so that the next run builds from what it has in store.
IMAGE = "sms-gateway-test"

# What tells which release runs: a base image may be a stand-in of the same name.
VERSIONS = {"redis": ("redis-server", "--version"), "rabbitmq": ("rabbitmqctl", "version")}

SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def summary(pytestconfig: pytest.Config) -> list[str]:
    """Lines about what the tests ran on, and what could not be tried there."""
    return pytestconfig.stash.setdefault(SUMMARY, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what it ran on: a stand-in or another release of a base image shows in its version."""
    if lines := config.stash.get(SUMMARY, []):
        terminalreporter.section("what this ran on")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def engine(summary: list[str]) -> Engine:
    """The engine that there is. Without one nothing here can be tried, and that is no success."""
    try:
        found = Engine.find()
    except EngineMissing as missing:
        pytest.exit(f"no Docker engine to test with: {missing}", returncode=1)
    summary.append(f"Docker {found.version}, {' '.join(found.compose)} {found.compose_version}")
    if found.is_compose_v1:
        summary.append("not tried: `up --wait` and the `name:` of compose.yml, which docker-compose 1 lacks")
    return found


@pytest.fixture(scope="session")
def image(engine: Engine, summary: list[str]) -> str:
    """The gateway's image, built as `make build` does."""
    options = shlex.split(os.environ.get("DOCKER_BUILD_OPTIONS", ""))
    docker("build", *options, "--tag", IMAGE, str(ROOT), seconds=900)
    version = docker("run", "--rm", "--entrypoint", "python", IMAGE, "--version")
    summary.append(f"the gateway's image: {version}")
    return IMAGE


@pytest.fixture
def container() -> Iterator[Container]:
    """The name for a container, which is removed afterwards."""
    named = Container(f"sms-gateway-test-{secrets.token_hex(4)}")
    yield named
    named.remove()


@pytest.fixture(scope="module")
def stack(
    engine: Engine, image: str, summary: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """All services of compose.yml, healthy."""
    stack = Stack(engine, image, tmp_path_factory.mktemp("compose"))
    try:
        stack.up()
        for service, command in VERSIONS.items():
            found = stack[service].execute(*command).splitlines()[-1]
            summary.append(f"{stack.images[service]}: {found}")
        yield stack
    finally:
        stack.remove()
