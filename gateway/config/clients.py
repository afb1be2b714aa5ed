"""The configured clients, by the digests of their API keys; no key is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from gateway.config.fingerprint import fingerprint
from pipeline.facts import Client
from schemas import Schema, load

_DIGEST = "sha256:"
_PART = 8
# Below this a key can be guessed; `sms-gateway key new` makes longer ones.
_SHORT_KEY = 16


class ConfiguredClients:
    """Implements ``pipeline.ports.Clients`` over CLIENT_CONFIG or ``[clients]``.

    Two keys with one name are one client, with one quota and one idempotency space: that is how a key is rotated.
    ``fingerprint`` is over the configuration as written, with digests in the place of keys.
    """

    def __init__(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        digests = {_digest(key): entry for key, entry in document.items()}
        self.fingerprint = fingerprint({_DIGEST + digest.hex(): entry for digest, entry in digests.items()})
        self._clients = [
            Client(entry["name"], entry.get("is_active", True), _whole(entry.get("daily_quota")))
            for entry in digests.values()
        ]
        # A part of the digest finds the candidates; the whole of it is compared in constant time.
        self._candidates: dict[bytes, list[tuple[bytes, Client]]] = {}
        for digest, client in zip(digests, self._clients, strict=True):
            self._candidates.setdefault(digest[:_PART], []).append((digest, client))
        self.names = sorted({client.name for client in self._clients})

    def __len__(self) -> int:
        return len(self.names)

    def authenticate(self, api_key: bytes) -> Client | None:
        """The active client with this key; None for an unknown key and for an inactive client alike."""
        digest = hashlib.sha256(api_key).digest()
        for known, client in self._candidates.get(digest[:_PART], ()):
            if hmac.compare_digest(known, digest):
                return client if client.is_active else None
        return None

    def named(self, name: str) -> Client | None:
        """The active client of this name."""
        return next((client for client in self._clients if client.name == name and client.is_active), None)


def mistakes(document: object) -> list[str]:
    """What is wrong with a configuration of clients; entries are counted and named, keys never shown."""
    schema = load("clients")
    violations = schema.violations_unless_valid(document)
    if not isinstance(document, dict):
        return [f"the whole document: {violation.message}" for violation in violations]
    if violations:
        positions = {key: position for position, key in enumerate(document, 1)}
        return [
            f"{_place(document, positions, path)}: {violation.message}"
            for violation in violations
            for path in ([violation.path] if violation.path else _bad_keys(document, schema))
        ]
    found = []
    seen: dict[bytes, int] = {}
    quotas: dict[str, Any] = {}
    for position, (key, entry) in enumerate(document.items(), 1):
        first = seen.setdefault(_digest(key), position)
        if first != position:
            found.append(f"entry {position}: its API key is that of entry {first}: leave one of the two")
        quota = quotas.setdefault(entry["name"], entry.get("daily_quota"))
        if quota != entry.get("daily_quota"):
            found.append(
                f"entry {position}: client '{entry['name']}' has another daily_quota in an earlier entry: "
                "its keys share one quota, so write the same number in all of them"
            )
    return found


def warnings(document: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a valid configuration of clients had better not do."""
    if not document:
        return ["no clients are configured: every send will be refused with UNAUTHORIZED (set CLIENT_CONFIG)"]
    return [
        f"the API key of client '{entry['name']}' has fewer than {_SHORT_KEY} characters and can be guessed: "
        "make one with 'sms-gateway key new'"
        for key, entry in document.items()
        if not key.startswith(_DIGEST) and len(key) < _SHORT_KEY
    ]


def new_key() -> tuple[str, str]:
    """A fresh API key of 256 random bits, and the form in which it is configured."""
    key = "sms_" + secrets.token_urlsafe(32)
    return key, _DIGEST + _digest(key).hex()


def _whole(quota: float | None) -> int | None:
    # JSON Schema counts 1000.0 among the integers.
    return None if quota is None else int(quota)


def _digest(key: str) -> bytes:
    if key.startswith(_DIGEST):
        return bytes.fromhex(key.removeprefix(_DIGEST))
    return hashlib.sha256(key.encode()).digest()


def _bad_keys(document: dict[str, Any], schema: Schema) -> list[tuple[str]]:
    """A violation without a path is about API keys, which are shown to nobody: say which entries they stand in."""
    pattern = re.compile(schema.document["propertyNames"]["pattern"])
    return [(key,) for key in document if not pattern.search(key)]


def _place(document: dict[str, Any], positions: Mapping[str, int], path: tuple[str | int, ...]) -> str:
    key = str(path[0])
    entry = document[key]
    name = entry.get("name") if isinstance(entry, dict) else None
    whose = f" (client '{name}')" if isinstance(name, str) else ""
    return f"entry {positions[key]}{whose}" + "".join(f", {token}" for token in path[1:])
