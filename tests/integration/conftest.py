"""Gateways over the real Redis and RabbitMQ and over the embedded file, one of each for all tests that can share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.gateways import Backend, Gateway
from tests.support.needs import params

BACKENDS = params(["servers", "embedded"], servers={"servers"})


def make_backend(name: str, request: pytest.FixtureRequest, directory: Path) -> Backend:
    """A backend of its own queue; ``servers`` starts Redis and RabbitMQ at their first use in the run."""
    if name == "embedded":
        url = f"embedded:{directory / 'gateway.db'}"
        return Backend(name, url, url)
    redis = request.getfixturevalue("redis_server")
    rabbit = request.getfixturevalue("rabbit_server")
    return Backend(name, redis.url, rabbit.url)


@pytest.fixture(scope="session", params=BACKENDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Backend]]:
    """A gateway for every test that leaves it as it was, and where it keeps its state.

    Whatever these tests send it, nothing of it may be a bug.
    """
    directory = tmp_path_factory.mktemp(f"gateway-{request.param}")
    backend = make_backend(request.param, request, directory)
    with Gateway(directory, backend.environ()) as running:
        yield running, backend
        assert [line for line in running.log_lines() if line["level"] in {"ERROR", "CRITICAL"}] == []


@pytest.fixture
def gateway(shared: tuple[Gateway, Backend]) -> Gateway:
    """The shared gateway, its queue empty."""
    shared[1].take_all()
    return shared[0]


@pytest.fixture
def backend(shared: tuple[Gateway, Backend]) -> Backend:
    """Where the shared gateway keeps its state."""
    return shared[1]


StartGateway = Callable[..., Gateway]


@pytest.fixture(params=BACKENDS)
def own_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A backend for one test alone."""
    return make_backend(request.param, request, tmp_path)


@pytest.fixture
def start_gateway(own_backend: Backend, tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways with an environment of the test's own over ``own_backend``, and ends them."""
    running: list[Gateway] = []

    def start(*, workers: int = 1, ready: bool = True, **environ: str) -> Gateway:
        gateway = Gateway(tmp_path, {**own_backend.environ(), **environ}, workers)
        running.append(gateway)
        return gateway.start(ready=ready)

    yield start
    for gateway in running:
        gateway.__exit__()


@pytest.fixture
def redis_keys(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Reads everything that Redis holds, keys and values of every kind, as text."""

    def read() -> str:
        client: Any = redis.Redis.from_url(request.getfixturevalue("redis_server").url)
        readers = {b"string": client.get, b"hash": client.hgetall}
        with client:
            return repr([(key, readers[client.type(key)](key)) for key in client.scan_iter()])

    return read
