"""The catalogue of providers: canonical names, aliases, and which of them are usable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline import codes
from pipeline.failures import Refused


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider; ``is_active`` is what the operator wants, ``is_operational`` what is observed."""

    name: str
    is_active: bool = True
    is_operational: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether messages may be routed to it."""
        return self.is_active and self.is_operational


class Providers:
    """All configured providers. Names and aliases compare without case.

    Raises ``ValueError`` with every name that two providers claim.
    """

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.by_name = {provider.name: provider for provider in providers}
        self._by_alias: dict[str, Provider] = {}
        clashes = []
        for provider in self.by_name.values():
            for name in (provider.name, *provider.aliases):
                owner = self._by_alias.setdefault(name.casefold(), provider)
                if owner is not provider:
                    clashes.append(f"'{name}' is claimed by both '{owner.name}' and '{provider.name}'")
        if clashes:
            raise ValueError("; ".join(clashes))
        self.any_usable = any(provider.is_usable for provider in self.by_name.values())
        """Whether smart selection has anything to select from."""

    def resolve(self, names: Sequence[str]) -> tuple[Provider, ...]:
        """The providers behind names and aliases, in order, each where it first stood.

        Raises ``Refused`` with every name that is neither.
        """
        if not names:
            return ()
        unknown = [name for name in names if name.casefold() not in self._by_alias]
        if unknown:
            raise Refused(
                codes.UNKNOWN_PROVIDER,
                details={"unknown": list(dict.fromkeys(unknown)), "allowed": sorted(self.by_name)},
            )
        found = (self._by_alias[name.casefold()] for name in names)
        return tuple({provider.name: provider for provider in found}.values())
