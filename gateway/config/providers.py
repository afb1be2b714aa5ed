"""The configured providers, read into the pipeline's catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.config.api_keys import is_made_here
from pipeline.providers import Provider, Providers
from schemas import Violation, load

# A name that can be shown in a message: no URL, and shorter than the keys that we make.
_PLAIN = re.compile(r"[\w.-]{1,32}")
_MEMBERS = ("is_active", "is_operational", "aliases", "note")
_MEMBERS_OF_CLIENTS = ("name", "daily_quota")


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
        return _told(document, violations)
    keys = [
        f"entry {position}: an API key stands in the place of a name: names and aliases of providers are public"
        for position, (name, entry) in enumerate(document.items(), 1)
        if any(map(is_made_here, (name, *entry.get("aliases", ()))))
    ]
    if keys:
        return keys
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


def _told(document: Any, violations: Sequence[Violation]) -> list[str]:
    """Each by the name that it stands under, but by a number where an API key may stand there: a client's entry."""
    entries = document if isinstance(document, dict) else {}
    is_of_clients = any(_has(entry, _MEMBERS_OF_CLIENTS) for entry in entries.values())
    meant = ": it looks like a client's, which stand in CLIENT_CONFIG" if is_of_clients else ""
    positions = {name: position for position, name in enumerate(entries, 1)}
    told = []
    for violation in violations:
        name, *rest = violation.path or ("",)
        if not violation.path:
            place = "the whole document"
        elif not is_of_clients and _PLAIN.fullmatch(str(name)) and _has(entries[str(name)], _MEMBERS):
            place = violation.pointer
        else:
            place = f"entry {positions[str(name)]}" + "".join(f", {token}" for token in rest)
        told.append(f"{place}: {violation.message}{meant}")
    return told


def _has(entry: object, members: Iterable[str]) -> bool:
    return isinstance(entry, dict) and not entry.keys().isdisjoint(members)
