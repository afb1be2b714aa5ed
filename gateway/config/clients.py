"""The configured clients, by the digests of their API keys; no key is kept."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from gateway.config import api_keys
from gateway.config.fingerprint import fingerprint
from pipeline.facts import Client
from schemas import load

_PART = 8
# As in the schema. What is longer is no name, and may be anything.
_LONGEST_NAME = 64
# Below this a key can be guessed; `sms-gateway key new` makes longer ones.
_SHORT_KEY = 16
_A_KEY = "is an API key: write the name here, and the key before the entry"


class ConfiguredClients:
    """Implements ``pipeline.ports.Clients`` over CLIENT_CONFIG or ``[clients]``.

    Two keys with one name are one client, with one quota and one idempotency space: that is how a key is rotated.
    ``fingerprint`` is over the configuration as written, with digests in the place of keys.
    """

    def __init__(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        digests = {api_keys.digest(key): entry for key, entry in document.items()}
        self.fingerprint = fingerprint(
            {api_keys.DIGEST + digest.hex(): entry for digest, entry in digests.items()}
        )
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
    violations = load("clients").violations_unless_valid(document)
    if not isinstance(document, dict):
        return [f"the whole document: {violation.message}" for violation in violations]
    positions = {key: position for position, key in enumerate(document, 1)}
    found = [
        f"{_place(document, positions, (key,))}: {mistake}"
        for key in document
        if (mistake := api_keys.mistake(key)) is not None
    ]
    found += [
        f"{_place(document, positions, violation.path)}: {violation.message}"
        for violation in violations
        if violation.path  # One without is about API keys, too, which are told of by their entries above.
    ]
    if found:
        return found
    seen: dict[bytes, int] = {}
    quotas: dict[str, Any] = {}
    for position, (key, entry) in enumerate(document.items(), 1):
        first = seen.setdefault(api_keys.digest(key), position)
        if first != position:
            found.append(f"entry {position}: its API key is that of entry {first}: leave one of the two")
        if api_keys.is_made_here(entry["name"]):
            found.append(f"entry {position}, name: {_A_KEY}")
            continue
        quota = quotas.setdefault(entry["name"], entry.get("daily_quota"))
        if quota != entry.get("daily_quota"):
            found.append(
                f"entry {position}: client '{entry['name']}' has another daily_quota in an earlier entry: "
                "its keys share one quota, so write the same number in all of them"
            )
    return found


def name_mistake(name: str) -> str | None:
    """What is wrong with this name of a client; None for nothing."""
    if api_keys.is_made_here(name):
        return _A_KEY
    violations = load("clients").violations_unless_valid({"key": {"name": name}})
    return violations[0].message if violations else None


def warnings(document: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a valid configuration of clients had better not do."""
    if not document:
        return ["no clients are configured: every send will be refused with UNAUTHORIZED (set CLIENT_CONFIG)"]
    return [
        f"the API key of client '{entry['name']}' has fewer than {_SHORT_KEY} characters and can be guessed: "
        "make one with 'sms-gateway key new'"
        for key, entry in document.items()
        if not key.startswith(api_keys.DIGEST) and len(key) < _SHORT_KEY
    ]


def _whole(quota: float | None) -> int | None:
    # JSON Schema counts 1000.0 among the integers.
    return None if quota is None else int(quota)


def _place(document: dict[str, Any], positions: Mapping[str, int], path: tuple[str | int, ...]) -> str:
    key = str(path[0])
    entry = document[key]
    name = entry.get("name") if isinstance(entry, dict) else None
    is_name = isinstance(name, str) and len(name) <= _LONGEST_NAME and not api_keys.is_made_here(name)
    whose = f" (client '{name}')" if is_name else ""
    return f"entry {positions[key]}{whose}" + "".join(f", {token}" for token in path[1:])
