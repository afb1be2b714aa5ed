"""A send that is accepted: the answer, and what the delivery side finds on the queue."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

import schemas
from tests.support.broker import consume
from tests.support.gateways import NUMBER, TEXT, Backend, Gateway
from tests.support.needs import params


def test_a_valid_request_gets_exactly_the_202_of_the_contract(gateway: Gateway) -> None:
    """The 202 has exactly the three members, and the tracking_id of its header."""
    answer = gateway.send()
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body == {
        "success": True,
        "message": "Request accepted for processing.",
        "tracking_id": answer.headers["x-tracking-id"],
    }
    assert schemas.load("accepted").violations(body) == []
    uuid.UUID(body["tracking_id"])


def test_what_is_on_the_queue_is_the_envelope_of_the_contract(gateway: Gateway, backend: Backend) -> None:
    """The envelope validates against its schema and says what was sent, by whom, where to and until when."""
    before = datetime.now(UTC)
    tracking_id = gateway.send(providers=["First", "beta", "alpha"], ttl_seconds=60).json()["tracking_id"]
    (envelope,) = backend.take_all()
    assert schemas.load("envelope").violations(envelope) == []
    assert envelope["tracking_id"] == tracking_id
    assert envelope["client"] == "acme"
    assert (envelope["to"], envelope["text"], envelope["ttl_seconds"]) == (NUMBER, TEXT, 60)
    assert envelope["providers_original"] == ["First", "beta", "alpha"]
    assert envelope["providers_effective"] == ["alpha", "beta"]
    created, expires = (datetime.fromisoformat(envelope[name]) for name in ("created_at", "expires_at"))
    assert before <= created <= datetime.now(UTC)
    assert (expires - created).total_seconds() == 60


# Embedded there is no broker: `forward` gives these properties when it moves the message.
@pytest.mark.parametrize("shared", params(["servers"], servers={"servers"}), indirect=True)
def test_the_properties_on_the_broker_are_those_of_the_contract(gateway: Gateway, backend: Backend) -> None:
    """Persistent, typed, dated, expiring, and named by its tracking_id."""
    tracking_id = gateway.send(ttl_seconds=77).json()["tracking_id"]
    ((properties, body),) = asyncio.run(consume(backend.rabbitmq_url, backend.queue))
    assert properties.message_id == tracking_id
    assert properties.message_type == "sms.outbound.v1"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.app_id == "server-a"
    assert properties.expiration == "77000"
    created_at = datetime.fromisoformat(json.loads(body)["created_at"])
    assert abs((properties.timestamp - created_at).total_seconds()) < 1


@pytest.mark.parametrize("written", [{}, {"providers": None}, {"providers": []}])
def test_no_providers_mean_smart_selection(
    gateway: Gateway, backend: Backend, written: dict[str, Any]
) -> None:
    """Absent, null and empty providers leave the route empty; the original is kept as it was written."""
    assert gateway.send(**written).status_code == 202
    (envelope,) = backend.take_all()
    assert envelope["providers_effective"] == []
    assert envelope["providers_original"] == written.get("providers")
    assert envelope["ttl_seconds"] == 3600


def test_one_usable_provider_is_exclusive(gateway: Gateway, backend: Backend) -> None:
    """One provider asked for by an alias, whatever its case, is the whole route."""
    assert gateway.send(providers=["FIRST"]).status_code == 202
    assert backend.take_all()[0]["providers_effective"] == ["alpha"]


def test_unusable_providers_are_dropped_and_the_order_is_kept(gateway: Gateway, backend: Backend) -> None:
    """Of several providers the unusable ones are left out of the route."""
    assert gateway.send(providers=["down", "b", "off", "a"]).status_code == 202
    assert backend.take_all()[0]["providers_effective"] == ["beta", "alpha"]


@pytest.mark.parametrize(
    "body",
    [
        {"to": "+12"},
        {"to": "+123456789012345"},
        {"text": "x" * 1600},
        {"text": "😀" * 1600},
        {"text": " x "},
        {"text": "first line\nsecond: line"},
        {"ttl_seconds": 10},
        {"ttl_seconds": 86400},
        {"providers": ["a"] * 16},
    ],
)
def test_the_limits_themselves_are_valid(gateway: Gateway, backend: Backend, body: dict[str, Any]) -> None:
    """What is just within a limit is accepted and arrives unchanged."""
    assert gateway.send(**body).status_code == 202
    (envelope,) = backend.take_all()
    assert schemas.load("envelope").violations(envelope) == []
    for member in body.keys() - {"providers"}:
        assert envelope[member] == body[member]


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/sms+json"]
)
def test_every_json_media_type_is_taken(gateway: Gateway, media_type: str) -> None:
    """A body may call itself application/json or application/*+json, with parameters, in any case."""
    headers = {"API-Key": "acme-0123456789-secret-tail", "Content-Type": media_type}
    body = json.dumps({"to": NUMBER, "text": TEXT})
    assert gateway.http.post("/api/v1/sms/send", content=body, headers=headers).status_code == 202


def test_messages_stand_on_the_queue_in_the_order_of_their_answers(
    gateway: Gateway, backend: Backend
) -> None:
    """One sender's messages, sent one after the other, are stored in that order."""
    sent = [gateway.send(text=f"number {number}").json()["tracking_id"] for number in range(20)]
    assert [envelope["tracking_id"] for envelope in backend.take_all()] == sent
