"""The fingerprint of a configuration: two gateways that have the same one are configured alike."""

from __future__ import annotations

import hashlib
import json


def fingerprint(document: object) -> str:
    """SHA-256, in hex, over the canonical JSON: sorted keys, no white space, UTF-8."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
