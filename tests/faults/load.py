"""What the senders send: their clients and keys, valid messages and those that are bound to be refused."""

from __future__ import annotations

import json
import random
from typing import Any

TEXT = "Words that may stand nowhere but in the envelope"
KEY_TAIL = "-9876543210-an-api-key"
IDEMPOTENCY_KEY = "an-idempotency-key"

METERED, FREE, ROTATED, SCARCE = "metered", "free", "rotated", "scarce"
LIMIT = 1_000_000
SCARCE_LIMIT = 60

CLIENTS: dict[str, dict[str, Any]] = {
    METERED + KEY_TAIL: {"name": METERED, "daily_quota": LIMIT},
    FREE + KEY_TAIL: {"name": FREE},
    ROTATED + KEY_TAIL: {"name": ROTATED, "daily_quota": LIMIT},
    "renewed" + KEY_TAIL: {"name": ROTATED, "daily_quota": LIMIT},
    SCARCE + KEY_TAIL: {"name": SCARCE, "daily_quota": SCARCE_LIMIT},
}
NAMES = (METERED, FREE, ROTATED, SCARCE)

PROVIDERS: dict[str, dict[str, Any]] = {
    "alpha": {"aliases": ["a", "First"]},
    "beta": {"aliases": ["b"]},
    "off": {"is_active": False},
}

API_KEYS = (
    *[METERED + KEY_TAIL] * 9,
    *[FREE + KEY_TAIL] * 5,
    *[ROTATED + KEY_TAIL] * 2,
    *["renewed" + KEY_TAIL] * 2,
)
VALID: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"providers": ["a"]},
    {"providers": ["First", "b"]},
    {"ttl_seconds": 600},
)
INVALID: tuple[tuple[dict[str, Any], str], ...] = (
    ({"to": "12"}, "INVALID_PAYLOAD"),
    ({"providers": ["nobody"]}, "UNKNOWN_PROVIDER"),
    ({"providers": ["off"]}, "PROVIDER_DISABLED"),
)

# How long a gateway may take: 10 s for a body, 10 s from there on, and some for a machine that has more to do.
PATIENCE_SECONDS = 15.0


def reworded(body: bytes, choose: random.Random) -> bytes:
    """The same JSON value in other bytes: its members in another order, other white space, other escapes."""
    members = list(json.loads(body).items())
    choose.shuffle(members)
    separators = choose.choice(((",", ":"), (", ", ": "), (" ,\t", " :\r\n")))
    text = json.dumps(dict(members), separators=separators, indent=choose.choice((None, None, 2)))
    return choose.choice(("", "\n", "  ")).encode() + _escaped(text, choose).encode()


def _escaped(text: str, choose: random.Random) -> str:
    """Some letters of the text written as JSON's escapes."""
    return text.replace("Words", "\\u0057ords") if choose.random() < 0.3 else text
