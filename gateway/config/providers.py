"""The configured providers, read into the pipeline's catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.providers import Provider, Providers
from schemas import Violation, load


def catalogue(document: Mapping[str, Mapping[str, Any]]) -> Providers:
    """PROVIDERS_CONFIG or ``[providers]`` as a catalogue. Raises ``ValueError`` for names that two providers claim."""
    return Providers(
        Provider(
            name=name,
            is_active=entry.get("is_active", True),
            is_operational=entry.get("is_operational", True),
            aliases=tuple(entry.get("aliases", ())),
        )
        for name, entry in document.items()
    )


def mistakes(document: object) -> list[str]:
    """What is wrong with a configuration of providers."""
    violations = load("providers").violations_unless_valid(document)
    if violations or not isinstance(document, dict):
        return [_told(document, violation) for violation in violations]
    try:
        catalogue(document)
    except ValueError as error:
        return [f"{error}: names and aliases are compared without case, and each leads to one provider"]
    return []


def warnings(document: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a valid configuration of providers had better not do."""
    if not document:
        return ["no providers are configured: every send will be refused (set PROVIDERS_CONFIG)"]
    if not catalogue(document).any_usable:
        return ["no provider is both active and operational: every send will be refused"]
    return []


def _told(document: Any, violation: Violation) -> str:
    entry = document[violation.path[0]] if violation.path else None
    if isinstance(entry, dict) and entry.keys() & {"name", "daily_quota"}:
        # Under the name of an entry that is a client's stands an API key.
        position = list(document).index(violation.path[0]) + 1
        return (
            f"entry {position}: {violation.message}: it looks like a client's, which stand in CLIENT_CONFIG"
        )
    return f"{violation.pointer or 'the whole document'}: {violation.message}"
