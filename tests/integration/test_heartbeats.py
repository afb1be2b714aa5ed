"""Heartbeats between running gateways: what they say, and what they notice of each other."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import schemas
from gateway.config.parsers import EMBEDDED
from tests.support.broker import consume
from tests.support.gateways import Backend, Gateway
from tests.support.scrape import value
from tests.support.waiting import until

StartGateway = Callable[..., Gateway]


def heartbeats(backend: Backend) -> list[dict[str, Any]]:
    """Every heartbeat that waits for the delivery side."""
    if backend.rabbitmq_url.startswith(EMBEDDED):
        connection = sqlite3.connect(backend.rabbitmq_url.removeprefix(EMBEDDED))
        try:
            return [
                json.loads(body) for (body,) in connection.execute("SELECT body FROM heartbeats ORDER BY id")
            ]
        finally:
            connection.close()
    return [
        json.loads(body)
        for _, body in asyncio.run(consume(backend.rabbitmq_url, f"{backend.queue}.heartbeat"))
    ]


def test_a_gateway_says_what_it_is_on_start_and_at_every_interval(
    start_gateway: StartGateway, own_backend: Backend
) -> None:
    """One and another one, of one instance, valid by their schema, and an interval apart but for its jitter."""
    start_gateway(HEARTBEAT_INTERVAL_SECONDS="5", SERVICE_NAME="front-door")
    found: list[dict[str, Any]] = []

    def are_two() -> bool:
        found.extend(heartbeat for heartbeat in heartbeats(own_backend) if heartbeat not in found)
        return len(found) >= 2

    until(are_two, "two heartbeats", every_seconds=0.2)
    assert all(schemas.load("heartbeat").violations(heartbeat) == [] for heartbeat in found)
    assert {heartbeat["service"] for heartbeat in found} == {"front-door"}
    assert len({heartbeat["instance_id"] for heartbeat in found}) == 1
    uptimes = [heartbeat["uptime_seconds"] for heartbeat in found]
    assert uptimes[0] < 4
    assert all(later - earlier >= 4.5 for earlier, later in pairwise(uptimes))


def test_gateways_that_are_configured_otherwise_notice_each_other(start_gateway: StartGateway) -> None:
    """Other clients count as a mismatch of clients only, on both sides, with both fingerprints in the log."""
    ours = start_gateway(HEARTBEAT_INTERVAL_SECONDS="1")
    theirs = start_gateway(HEARTBEAT_INTERVAL_SECONDS="1", CLIENT_CONFIG="{}")
    name = "sms_config_fingerprint_mismatch_total"
    until(
        lambda: value(ours, name, kind="clients") and value(theirs, name, kind="clients"), "both mismatches"
    )
    for gateway in (ours, theirs):
        assert value(gateway, name, kind="clients") >= 1
        assert value(gateway, name, kind="providers") == 0
    warning = next(line for line in ours.log_lines() if line.get("kind") == "clients")
    assert warning["level"] == "WARNING"
    assert warning["ours"] != warning["theirs"]
    other = next(line["instance_id"] for line in theirs.log_lines() if line["message"] == "serving")
    assert warning["instance_id"] == other


def test_gateways_that_are_configured_alike_find_nothing(start_gateway: StartGateway) -> None:
    """Equal configuration, also with several workers, counts nothing."""
    gateway = start_gateway(HEARTBEAT_INTERVAL_SECONDS="1", workers=2)
    until(lambda: value(gateway, "sms_heartbeats_total", outcome="sent") >= 4, "four heartbeats")
    assert value(gateway, "sms_config_fingerprint_mismatch_total", kind="clients") == 0
    assert value(gateway, "sms_config_fingerprint_mismatch_total", kind="providers") == 0
