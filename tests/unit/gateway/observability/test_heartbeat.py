"""Heartbeats, out and in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway import __version__
from gateway.observability import heartbeat as heartbeat_module
from gateway.observability.heartbeat import Heartbeats
from gateway.observability.metrics import Metrics
from pipeline.envelope import ConfigFingerprint
from pipeline.ports import BrokerRefused, BrokerUnknown
from schemas import load
from tests.support.asgi import StandingClock
from tests.support.lines import Lines


class Bus:
    """Fails as often as it is told to, then remembers what it was given."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent: list[bytes] = []
        self.receive: Callable[[bytes], None] | None = None

    async def send(self, heartbeat: bytes) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(heartbeat)

    def listen(self, receive: Callable[[bytes], None]) -> None:
        self.receive = receive


def heart(
    bus: Bus, metrics: Metrics | None = None, *, clients: str = "a", interval_seconds: float = 60
) -> Heartbeats:
    fingerprint = ConfigFingerprint(clients * 64, "b" * 64)
    return Heartbeats(bus, "server-a", fingerprint, interval_seconds, StandingClock(), metrics or Metrics())


def mismatches(metrics: Metrics) -> dict[str, float | None]:
    name = "sms_config_fingerprint_mismatch_total"
    return {
        kind: metrics.registry.get_sample_value(name, {"kind": kind}) for kind in ("clients", "providers")
    }


class Pauses:
    """Stands in for ``asyncio``: sleeps no time, remembers how long, and ends after so many pauses."""

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self.most = most

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self.most:
            raise asyncio.CancelledError


async def run(monkeypatch: pytest.MonkeyPatch, heartbeats: Heartbeats, beats: int) -> list[float]:
    """Let it beat so often; the pauses between."""
    pauses = Pauses(beats)
    monkeypatch.setattr(heartbeat_module, "asyncio", pauses)
    with pytest.raises(asyncio.CancelledError):
        await heartbeats.run()
    return pauses.seconds


def test_a_heartbeat_is_what_its_schema_says() -> None:
    """It names the process, its version, its configuration and how long it runs."""
    heartbeats = heart(Bus())
    document = json.loads(heartbeats.heartbeat())
    assert load("heartbeat").violations(document) == []
    assert document["service"] == "server-a"
    assert document["instance_id"] == heartbeats.instance_id
    assert document["version"] == __version__
    assert document["ts"] == "2026-03-01T12:00:00.000005Z"
    assert document["config_fingerprint"] == {"clients": "a" * 64, "providers": "b" * 64}


def test_every_process_has_an_id_of_its_own() -> None:
    """Two workers on one machine are told apart."""
    assert heart(Bus()).instance_id != heart(Bus()).instance_id


async def test_it_beats_on_start_and_at_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a little jitter, so that gateways that were started together need not speak together."""
    bus, metrics = Bus(), Metrics()
    seconds = await run(monkeypatch, heart(bus, metrics), 3)
    assert len(bus.sent) == 3
    assert all(57 <= pause <= 60 for pause in seconds)
    assert metrics.registry.get_sample_value("sms_heartbeats_total", {"outcome": "sent"}) == 3


async def test_a_failed_beat_is_tried_again_with_backoff(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """After 0.25, 0.5, 1, ... seconds, never more than an interval; a beat that is sent starts over."""
    down, unknown = BrokerRefused("not connected"), BrokerUnknown("no confirm")
    bus, metrics = Bus(down, unknown, *[down] * 5), Metrics()
    seconds = await run(monkeypatch, heart(bus, metrics, interval_seconds=10), 8)
    for pause, most in zip(seconds, [0.25, 0.5, 1, 2, 4, 8, 10, 10], strict=True):
        assert most * 0.95 <= pause <= most
    assert len(bus.sent) == 1
    assert metrics.registry.get_sample_value("sms_heartbeats_total", {"outcome": "failed"}) == 7
    assert [line["cause"] for line in lines.all()[:2]] == ["not connected", "no confirm"]


@pytest.mark.parametrize(("up_seconds", "level"), [(0, "DEBUG"), (4.5, "DEBUG"), (5.5, "WARNING")])
async def test_right_after_the_start_a_failed_beat_is_no_news(
    monkeypatch: pytest.MonkeyPatch, lines: Lines, up_seconds: float, level: str
) -> None:
    """The connection is still being made; later on its absence is worth a warning."""
    heartbeats = heart(Bus(BrokerRefused("not connected")))
    heartbeats._started -= up_seconds
    await run(monkeypatch, heartbeats, 1)
    line = lines.one()
    assert (line["level"], line["cause"]) == (level, "not connected")


async def test_a_bug_does_not_end_the_heartbeats(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """It is an error from the first second on, and the next beat is tried like after any other failure."""
    bus, metrics = Bus(RuntimeError("a bug"), KeyError("another")), Metrics()
    seconds = await run(monkeypatch, heart(bus, metrics), 3)
    assert len(bus.sent) == 1
    assert [round(pause / 0.25) for pause in seconds[:2]] == [1, 2]
    assert metrics.registry.get_sample_value("sms_heartbeats_total", {"outcome": "failed"}) == 2
    told = lines.all()
    assert [line["level"] for line in told] == ["ERROR", "ERROR"]
    assert ["RuntimeError" in told[0]["exception"], "KeyError" in told[1]["exception"]] == [True, True]


async def test_backoff_starts_over_after_a_beat(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """A second trouble is met as quickly as the first."""
    bus = Bus(BrokerRefused("x"), BrokerRefused("x"))
    heartbeats = heart(bus)
    await run(monkeypatch, heartbeats, 3)
    bus.failures = [BrokerRefused("x")]
    (first,) = await run(monkeypatch, heartbeats, 1)
    assert first <= 0.25
    assert len(lines.all()) == 3


def test_it_listens_from_the_beginning() -> None:
    """What arrives on the bus is heard."""
    bus = Bus()
    heartbeats = heart(bus)
    assert bus.receive == heartbeats.hear


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"clients": "c" * 64}, {"clients": 1.0, "providers": 0.0}),
        ({"providers": "c" * 64}, {"clients": 0.0, "providers": 1.0}),
        ({"clients": "c" * 64, "providers": "d" * 64}, {"clients": 1.0, "providers": 1.0}),
        ({}, {"clients": 0.0, "providers": 0.0}),
    ],
    ids=str,
)
def test_another_configuration_is_counted_and_warned_of(
    change: dict[str, str], counted: dict[str, float | None], lines: Lines
) -> None:
    """The warning has both values and the instance; the same configuration is silence."""
    metrics = Metrics()
    heartbeats = heart(Bus(), metrics)
    document = json.loads(heart(Bus()).heartbeat())
    document["config_fingerprint"] |= change
    heartbeats.hear(json.dumps(document).encode())
    assert mismatches(metrics) == counted
    warned = lines.all()
    assert {line["kind"]: line["theirs"] for line in warned} == change
    assert all(line["instance_id"] == document["instance_id"] for line in warned)
    assert all(line["ours"] == {"clients": "a" * 64, "providers": "b" * 64}[line["kind"]] for line in warned)


def test_what_it_said_itself_is_passed_over(lines: Lines) -> None:
    """Its own beat comes back from the exchange, and is no news even if it were changed on the way."""
    metrics = Metrics()
    heartbeats = heart(Bus(), metrics)
    document: dict[str, Any] = json.loads(heartbeats.heartbeat())
    document["config_fingerprint"]["clients"] = "c" * 64
    heartbeats.hear(json.dumps(document).encode())
    assert mismatches(metrics) == {"clients": 0.0, "providers": 0.0}
    assert lines.all() == []


@pytest.mark.parametrize(
    "heard",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff", b'{"config_fingerprint": {}}', b"[" * 2000],
    ids=lambda heard: repr(heard[:20]),
)
def test_what_is_no_heartbeat_is_passed_over(heard: bytes, lines: Lines) -> None:
    """Whatever somebody puts on the exchange, serving goes on."""
    metrics = Metrics()
    heart(Bus(), metrics).hear(heard)
    assert mismatches(metrics) == {"clients": 0.0, "providers": 0.0}
    assert lines.one()["level"] == "WARNING"
