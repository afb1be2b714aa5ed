"""The cost of a text by its length: each step in this process, and a whole send over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import schemas
from pipeline import payload
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Message, Route
from tests.bench.growth import load, usage
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import folder
from tests.bench.growth.timing import microseconds
from tests.support.gateways import NUMBER, SEND, Gateway

LONGEST: int = schemas.load("request").document["properties"]["text"]["maxLength"]
ALPHABETS = {"ASCII": "x", "emoji": "\U0001f600"}
_CONNECTIONS = 16


def measure(lengths: Sequence[int], seconds: float) -> list[Table]:
    """For each length, in ASCII and in characters outside the Basic Multilingual Plane."""
    table = Table(
        "texts",
        "Length of the text; embedded, without a key",
        (
            "characters",
            "of",
            "body bytes",
            "parse µs",
            "validate µs",
            "fingerprint µs",
            "envelope µs",
            "whole send, CPU µs",
        ),
    )
    with folder() as directory:
        url = f"embedded:{directory / 'gateway.db'}"
        with Gateway(directory, {"REDIS_URL": url, "RABBITMQ_URL": url}) as gateway:
            for length in lengths:
                for alphabet, character in ALPHABETS.items():
                    say(f"{length} characters of {alphabet}")
                    text = character * length
                    table.add(length, alphabet, *steps(text), whole(gateway, text, seconds))
    return [table]


def steps(text: str) -> list[float]:
    """The bytes of the body, and the µs of each step that reads or writes the text."""
    raw = json.dumps({"to": NUMBER, "text": text}, ensure_ascii=False).encode()
    parsed = payload.parse(raw)
    is_valid = schemas.load("request").is_valid
    assert is_valid(parsed.document)
    envelope = Envelope(
        "0" * 36,
        "acme",
        Message(NUMBER, text, 3600),
        Route(),
        ConfigFingerprint("0" * 64, "0" * 64),
        datetime.now(UTC),
    )
    return [
        len(raw),
        microseconds(lambda: payload.parse(raw)),
        microseconds(lambda: is_valid(parsed.document)),
        microseconds(lambda: parsed.fingerprint("POST", SEND)),
        microseconds(envelope.to_json),
    ]


def whole(gateway: Gateway, text: str, seconds: float) -> float:
    """The gateway's CPU µs for one send, its commit and its share of everything else included."""
    assert gateway.process is not None
    request = load.requests(keyed=False, text=text)

    def work() -> int:
        return load.send(gateway.port, _CONNECTIONS, seconds, request).accepted

    return usage.cpu_during({"gateway": gateway.process.pid}, work)["gateway"]
