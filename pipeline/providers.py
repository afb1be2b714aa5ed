"""The catalogue of providers: canonical names, aliases, and which of them are usable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline import codes
from pipeline.failures import Refused

# With more names and aliases nobody is told what was meant: each is indexed once for each of its characters.
_MOST_INDEXED = 1000
_SHORTEST_INDEXED = 2


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
        self._by_slip = _index(
            [name for provider in self.by_name.values() for name in (provider.name, *provider.aliases)]
        )
        self.any_usable = any(provider.is_usable for provider in self.by_name.values())
        """Whether smart selection has anything to select from."""

    def resolve(self, names: Sequence[str]) -> tuple[Provider, ...]:
        """The providers behind names and aliases, in order, each where it first stood.

        Raises ``Refused`` with every name that is neither, and with what may have been meant.
        """
        if not names:
            return ()
        unknown = [name for name in names if name.casefold() not in self._by_alias]
        if unknown:
            raise Refused(codes.UNKNOWN_PROVIDER, details=self._told_of(unknown))
        return self.known(names)

    def known(self, names: Sequence[str]) -> tuple[Provider, ...]:
        """Like ``resolve``, without the names that are neither: of a message that cannot be refused any more."""
        found = (self._by_alias.get(name.casefold()) for name in names)
        return tuple({provider.name: provider for provider in found if provider is not None}.values())

    def _told_of(self, unknown: Sequence[str]) -> dict[str, object]:
        told: dict[str, object] = {"unknown": list(dict.fromkeys(unknown)), "allowed": sorted(self.by_name)}
        suggestions = {name: meant for name in unknown if (meant := self._meant_by(name))}
        return told | {"suggestions": suggestions} if suggestions else told

    def _meant_by(self, unknown: str) -> str | None:
        """A name or an alias that is one slip away, if there is one."""
        return next((self._by_slip[slip] for slip in _slips(unknown) if slip in self._by_slip), None)


def _index(names: Sequence[str]) -> dict[str, str]:
    """Each name by its slips; the first one has them."""
    indexed = names if len(names) <= _MOST_INDEXED else ()
    return {slip: name for name in reversed(indexed) for slip in _slips(name)}


def _slips(name: str) -> Iterator[str]:
    """The name itself, and the name without each of its characters.

    Two names that share one of them are a slip apart: a character too many or too few, another one, or two that changed
    places (the deletion neighbourhood of Mor and Fraenkel, 1982). To look one up takes a hash for each character.
    """
    folded = name.casefold()
    yield folded
    if len(folded) > _SHORTEST_INDEXED:
        for position in range(len(folded)):
            yield folded[:position] + folded[position + 1 :]
