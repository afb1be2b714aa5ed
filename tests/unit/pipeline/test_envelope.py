"""The envelope for the delivery side."""

from __future__ import annotations

import json
from dataclasses import replace

from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Message, Route
from schemas import load
from tests.support.asgi import NOON

ENVELOPE = Envelope(
    tracking_id="00000000-0000-4000-8000-000000000000",
    client="acme",
    message=Message("+14155552671", "Hello", 60, ("A", "b")),
    route=Route(("alpha", "beta")),
    config_fingerprint=ConfigFingerprint("a" * 64, "b" * 64),
    created_at=NOON,
)


def test_the_body_is_what_the_delivery_side_was_promised() -> None:
    """Each member of ``sms.outbound.v1`` has its value, and there is none besides."""
    document = json.loads(ENVELOPE.to_json())
    assert load("envelope").violations(document) == []
    assert document == {
        "tracking_id": "00000000-0000-4000-8000-000000000000",
        "client": "acme",
        "to": "+14155552671",
        "text": "Hello",
        "ttl_seconds": 60,
        "expires_at": "2026-03-01T12:01:00.000005Z",
        "providers_original": ["A", "b"],
        "providers_effective": ["alpha", "beta"],
        "config_fingerprint": {"clients": "a" * 64, "providers": "b" * 64},
        "created_at": "2026-03-01T12:00:00.000005Z",
    }


def test_smart_selection_is_an_empty_list_and_what_was_not_written_is_null() -> None:
    """Server B tells by the two members what the caller wanted and what it is to do."""
    smart = replace(ENVELOPE, message=Message("+14155552671", "x", 60), route=Route())
    document = json.loads(smart.to_json())
    assert (document["providers_original"], document["providers_effective"]) == (None, [])
    assert load("envelope").is_valid(document)


def test_an_empty_list_that_was_written_stays_one() -> None:
    """``[]`` is as the caller wrote it, though it means the same as null."""
    smart = replace(ENVELOPE, message=Message("+14155552671", "x", 60, ()), route=Route())
    assert json.loads(smart.to_json())["providers_original"] == []
