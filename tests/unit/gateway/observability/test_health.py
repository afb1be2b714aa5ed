"""Liveness and readiness."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from starlette.requests import Request

from gateway.dependency import Degraded, Full
from gateway.observability import health as health_module
from gateway.observability.health import Health
from tests.support.asgi import Exchange


class Scripted:
    """A dependency that answers as it is told to."""

    def __init__(self, name: str, outcome: Exception | float = 0.0) -> None:
        self.name = name
        self.outcome = outcome
        self.pings = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None:
        self.pings += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        await asyncio.sleep(self.outcome)


def request() -> Request:
    return Request(Exchange(b"", {}, method="GET", path="/readyz").scope)


async def ask(health: Health) -> tuple[int, Any]:
    response = await health.ready(request())
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, json.loads(bytes(response.body))


async def test_being_alive_asks_nobody() -> None:
    """A store that is down is no reason to restart the process."""
    store = Scripted("store", RuntimeError("down"))
    response = await Health([store]).alive(request())
    assert (response.status_code, json.loads(bytes(response.body))) == (200, {"status": "ok"})
    assert store.pings == 0


async def test_ready_means_that_store_and_broker_answer() -> None:
    """The body names each, its state, its latency and that it never failed."""
    status, body = await ask(Health([Scripted("store"), Scripted("broker")]))
    assert (status, body["status"]) == (200, "ready")
    assert list(body["dependencies"]) == ["store", "broker"]
    for report in body["dependencies"].values():
        assert (report["state"], report["last_error"]) == ("up", None)
        assert 0 <= report["latency_ms"] < 1000


@pytest.mark.parametrize("down", ["store", "broker"])
async def test_one_that_does_not_answer_makes_it_unready(down: str) -> None:
    """The other one is reported as it is."""
    dependencies = [
        Scripted(name, RuntimeError("no way") if name == down else 0) for name in ("store", "broker")
    ]
    status, body = await ask(Health(dependencies))
    assert (status, body["status"]) == (503, "unavailable")
    states = {name: report["state"] for name, report in body["dependencies"].items()}
    assert states == {"store": "up", "broker": "up"} | {down: "down"}
    assert body["dependencies"][down]["last_error"] == "no way"


async def test_a_failure_without_words_has_its_type() -> None:
    """A report that says nothing would help nobody."""
    _, body = await ask(Health([Scripted("store", ConnectionResetError())]))
    assert body["dependencies"]["store"]["last_error"] == "ConnectionResetError"


async def test_the_last_error_stays_in_the_report() -> None:
    """Who looks after the recovery still sees what it was, and how long ago."""
    store = Scripted("store", RuntimeError("it was this"))
    health = Health([store])
    await ask(health)
    store.outcome = 0.0
    status, body = await ask(health)
    report = body["dependencies"]["store"]
    assert (status, report["state"], report["last_error"]) == (200, "up", "it was this")
    assert 0 <= report["last_error_seconds_ago"] < 10


async def test_it_never_blocks_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that hang are asked at once, and given up together."""
    assert health_module._PING_SECONDS < 1
    monkeypatch.setattr(health_module, "_PING_SECONDS", 0.05)
    started = time.perf_counter()
    status, body = await ask(Health([Scripted("store", 60.0), Scripted("broker", 60.0)]))
    assert time.perf_counter() - started < 0.5
    assert status == 503
    assert {report["last_error"] for report in body["dependencies"].values()} == {"no answer within 0.05 s"}


async def test_a_process_that_is_about_to_end_is_not_ready() -> None:
    """It is taken out of rotation while it still answers what it has."""
    health = Health([Scripted("store")])
    health.is_draining = True
    status, body = await ask(health)
    assert (status, body["status"]) == (503, "draining")
    assert (await health.alive(request())).status_code == 200


UP, DOWN, WAITING, FULL = 0.0, RuntimeError("down"), Degraded("312 messages wait"), Full("the spool is full")


@pytest.mark.parametrize(
    ("store", "broker", "spool", "status", "word"),
    [
        (UP, UP, UP, 200, "ready"),
        (UP, DOWN, UP, 200, "degraded"),
        (UP, DOWN, WAITING, 200, "degraded"),
        (UP, UP, WAITING, 200, "degraded"),
        (UP, UP, DOWN, 200, "degraded"),
        (UP, DOWN, DOWN, 503, "unavailable"),
        (UP, DOWN, FULL, 503, "unavailable"),
        (UP, UP, FULL, 503, "unavailable"),
        (DOWN, UP, UP, 503, "unavailable"),
        (DOWN, DOWN, WAITING, 503, "unavailable"),
        (DOWN, DOWN, DOWN, 503, "unavailable"),
    ],
)
async def test_a_spool_stands_in_for_the_broker(
    store: Exception | float, broker: Exception | float, spool: Exception | float, status: int, word: str
) -> None:
    """Degraded is 200: sends are accepted. Each dependency's own state is told."""
    named = {"store": store, "broker": broker, "spool": spool}
    *dependencies, last = (Scripted(name, outcome) for name, outcome in named.items())
    found, body = await ask(Health(dependencies, last))
    assert (found, body["status"]) == (status, word)
    words = {UP: "up", DOWN: "down", WAITING: "degraded", FULL: "full"}
    states = {name: report["state"] for name, report in body["dependencies"].items()}
    assert states == {name: words[outcome] for name, outcome in named.items()}


async def test_a_gateway_with_a_spool_that_is_about_to_end_is_not_ready() -> None:
    """Whatever the spool says."""
    health = Health([Scripted("store"), Scripted("broker")], Scripted("spool", WAITING))
    health.is_draining = True
    status, body = await ask(health)
    assert (status, body["status"]) == (503, "draining")


async def test_a_connection_that_is_lost_while_it_is_asked_is_down() -> None:
    """A lost connection may surface as a cancellation: that is an answer about the broker, not an end of us."""

    class Lost(Scripted):
        async def ping(self) -> None:
            raise asyncio.CancelledError

    status, body = await ask(Health([Lost("broker"), Scripted("store")]))
    assert status == 503
    assert [report["state"] for report in body["dependencies"].values()] == ["down", "up"]


async def test_who_asks_may_give_up() -> None:
    """A real cancellation ends the request."""
    asking = asyncio.create_task(ask(Health([Scripted("store", 60.0)])))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
