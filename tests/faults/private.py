"""What may stand nowhere but in the envelope, and what the gateways' logs tell: bugs, and steps that failed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults.load import IDEMPOTENCY_KEY, KEY_TAIL, TEXT
from tests.support.gateways import Gateway

SECRET = {
    "an API key": re.compile(re.escape(KEY_TAIL).encode()),
    "an Idempotency-Key": re.compile(re.escape(IDEMPOTENCY_KEY).encode()),
}
"""What may stand nowhere."""

PRIVATE = {
    **SECRET,
    "a text": re.compile(re.escape(TEXT).encode()),
    # With its plus or without it, and not among the digits of a fraction or of an id.
    "a whole number": re.compile(rb"(?<![\w.-])98912\d{7}(?!\w)"),
}
"""What may stand nowhere but in the envelope."""

_TOO_LATE = b"it came too late"
_FAILED_STEP = re.compile(rb"the store failed at '(\w+)'")
# What requests end by while something is broken; any other exception in a log is a bug.
_FAILURES = {
    "BrokerRefused",
    "BrokerUnknown",
    "CancelledError",
    "Refused",
    "StoreUnavailable",
    "TimeoutError",
    "Unconfirmed",
    "Unroutable",
}


def found_in(text: bytes, where: str, kinds: Mapping[str, re.Pattern[bytes]] = PRIVATE) -> list[str]:
    """What stands in ``text`` that may not."""
    return [f"{what} stands in {where}" for what, pattern in kinds.items() if pattern.search(text)]


def logged(gateway: Gateway) -> list[str]:
    """What stands in a gateway's log that may not: private data, and bugs."""
    complaints = []
    for line in gateway.log_path.read_bytes().splitlines():
        complaints += found_in(line, f"the log: {line[:200]!r}")
        complaints += _bug(line)
    return complaints


def failed_steps(gateways: Sequence[Gateway]) -> Counter[tuple[str, str]]:
    """By step and tracking_id, how often a gateway has said that the store failed at it, and that it went on.

    A step that came too late is none of these: somebody else has the claim, and only a lease that was over explains it.
    """
    found: Counter[tuple[str, str]] = Counter()
    for gateway in gateways:
        for line in gateway.log_path.read_bytes().splitlines():
            step = _FAILED_STEP.search(line)
            if step is not None and _TOO_LATE not in line:
                found[step[1].decode(), json.loads(line)["tracking_id"]] += 1
    return found


def _bug(line: bytes) -> list[str]:
    """What a log line tells of a bug: it is no JSON, or an error that is none of the failures that are known."""
    try:
        entry = json.loads(line)
        level = entry["level"]
    except (ValueError, KeyError, TypeError):
        return [f"a log line that is no JSON object: {line[:300]!r}"]
    raised = {part for part in entry.get("exception", "").splitlines() if not part.startswith(" ")}
    # The library calls an error what is a lost connection to the gateway, and a lock on the file has to be told.
    is_told = (
        entry.get("logger") == "aiormq.connection" or "another process keeps it locked" in entry["message"]
    )
    if level not in ("ERROR", "CRITICAL") or (raised and raised <= _FAILURES) or is_told:
        return []
    return [f"logged as {level}: {line[:1500]!r}"]
