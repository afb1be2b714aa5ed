"""Arbitrary JSON, and instances of each schema that are nearly right."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# On some of these engines are known to disagree: line ends, digits of other scripts, what white space is.
ODD = "a0+1 \t\n\r\x0b\x1c\x85\xa0\u180e\u2003\u2028\ufeff\0\u0664\uff11é🎉"
ODD_TEXTS = st.text(st.sampled_from(ODD), max_size=4)
NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.integers(-5, 90000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([60.0, -0.0, 1e300, 86400.5])
)
SCALARS: SearchStrategy[Any] = st.none() | st.booleans() | NUMBERS | TEXTS | ODD_TEXTS
VALUES: SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)

TRACKING_ID = "01234567-89ab-8def-8123-456789abcdef"
TIME = "2026-03-01T12:00:00.000005Z"
FINGERPRINT = {"clients": "a" * 64, "providers": "b" * 64}


def around(*right: str) -> SearchStrategy[str]:
    """Texts that are right, but for an odd character or two somewhere."""
    return st.builds(
        lambda text, odd, at: text[: at % (len(text) + 1)] + odd + text[at % (len(text) + 1) :],
        st.sampled_from(right),
        ODD_TEXTS | st.just("\n"),
        st.integers(0, 64) | st.just(-1),
    ) | st.sampled_from([text + "\n" for text in right])


def nearly(valid: dict[str, Any], **edges: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """``valid``, of which up to two members are something else and at times one is missing or one is too many."""
    change = st.sampled_from(sorted(edges)).flatmap(
        lambda name: st.tuples(st.just(name), edges[name] | edges[name] | VALUES)
    )
    none: SearchStrategy[dict[str, Any]] = st.just({})
    return st.builds(
        lambda changes, missing, more: {
            name: value for name, value in {**valid, **dict(changes), **more}.items() if name != missing
        },
        st.lists(change, max_size=2),
        st.none() | st.none() | st.none() | st.sampled_from(sorted(valid)),
        none | none | none | st.dictionaries(TEXTS, VALUES, max_size=1),
    )


NAMES = around("alpha", "a b", "x" * 64, "x" * 65, "")
NUMBERS_TO = around("+14155552671", "+12", "+123456789012345", "+1234567890123456", "+0123")
MESSAGES = around("Hello", "x" * 1600, "x" * 1601, "", " ", "\n")
UUIDS = around(TRACKING_ID, TRACKING_ID.upper())
TIMES = around(TIME, "2026-03-01T12:00:00Z")
FINGERPRINTS = nearly(FINGERPRINT, clients=around("a" * 64), providers=around("b" * 64))
LIFETIMES = st.integers(8, 12) | st.integers(86398, 86402) | st.sampled_from([10.0, 10.5]) | st.booleans()

REQUESTS = nearly(
    {"to": "+14155552671", "text": "Hello"},
    to=NUMBERS_TO,
    text=MESSAGES,
    providers=st.none() | st.lists(NAMES, max_size=3) | st.lists(st.just("a"), min_size=15, max_size=18),
    ttl_seconds=LIFETIMES,
)
BY_SCHEMA: dict[str, SearchStrategy[Any]] = {
    "request": REQUESTS,
    "accepted": nearly(
        {"success": True, "message": "Request accepted for processing.", "tracking_id": TRACKING_ID},
        success=st.sampled_from([1, 1.0, False]),
        message=around("Request accepted for processing."),
        tracking_id=UUIDS,
    ),
    "error": nearly(
        {
            "error_code": "NOT_FOUND",
            "message": "x",
            "details": None,
            "tracking_id": TRACKING_ID,
            "timestamp": TIME,
        },
        error_code=around("NOT_FOUND", "A" * 64, "A" * 65),
        message=TEXTS,
        details=st.dictionaries(TEXTS, SCALARS, max_size=2),
        tracking_id=UUIDS,
        timestamp=TIMES,
    ),
    "envelope": nearly(
        {
            "tracking_id": TRACKING_ID,
            "client": "acme",
            "to": "+14155552671",
            "text": "Hello",
            "ttl_seconds": 60,
            "expires_at": TIME,
            "providers_original": None,
            "providers_effective": [],
            "config_fingerprint": FINGERPRINT,
            "created_at": TIME,
        },
        tracking_id=UUIDS,
        client=TEXTS,
        to=NUMBERS_TO,
        text=MESSAGES,
        ttl_seconds=LIFETIMES,
        expires_at=TIMES,
        providers_original=st.lists(NAMES, max_size=3),
        providers_effective=st.lists(NAMES | st.sampled_from("aab"), max_size=3),
        config_fingerprint=FINGERPRINTS,
        created_at=TIMES,
    ),
    "heartbeat": nearly(
        {
            "service": "server-a",
            "instance_id": "host-1",
            "version": "1",
            "ts": TIME,
            "config_fingerprint": FINGERPRINT,
            "uptime_seconds": 0,
        },
        service=TEXTS,
        instance_id=TEXTS,
        version=TEXTS,
        ts=TIMES,
        config_fingerprint=FINGERPRINTS,
        uptime_seconds=st.integers(-1, 5) | st.floats(-1, 1e9),
    ),
    "clients": st.dictionaries(
        around("sha256:" + "a" * 64, "sha256:", "key", "!" * 255, "!" * 256),
        nearly(
            {"name": "acme"},
            name=NAMES,
            is_active=st.booleans(),
            daily_quota=st.none() | st.integers(-1, 1) | st.integers(2**53 - 2, 2**53 + 1) | st.just(5.0),
        ),
        max_size=2,
    ),
    "providers": st.dictionaries(
        NAMES,
        nearly(
            {"is_active": True},
            is_operational=st.booleans(),
            aliases=st.lists(NAMES, max_size=2),
            note=st.none() | TEXTS,
        ),
        max_size=2,
    ),
}


def strings_in(value: Any) -> set[str]:
    """Every string that stands anywhere in a JSON value, names of members included."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, list):
        return {text for item in value for text in strings_in(item)}
    if isinstance(value, dict):
        return set(value) | {text for item in value.values() for text in strings_in(item)}
    return set()


def written(value: Any, indent: int | None, ascii_only: bool) -> bytes:
    """One of the ways in which a JSON value may be written."""
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
