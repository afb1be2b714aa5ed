"""The catalogue of providers."""

from __future__ import annotations

import pytest

from pipeline.failures import Refused
from pipeline.providers import Provider, Providers

CATALOGUE = Providers(
    [
        Provider("Alpha", aliases=("a", "First")),
        Provider("beta", is_active=False, aliases=("STRASSE",)),
        Provider("gamma", is_operational=False),
    ]
)


def test_usable_means_wanted_and_working() -> None:
    """Neither the operator's wish nor the observed state is enough alone."""
    assert [provider.is_usable for provider in CATALOGUE.by_name.values()] == [True, False, False]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["Alpha"], ["Alpha"]),
        (["ALPHA", "beta"], ["Alpha", "beta"]),
        (["beta", "first"], ["beta", "Alpha"]),
        (["straße"], ["beta"]),
        (["a", "beta", "alpha", "First"], ["Alpha", "beta"]),
    ],
    ids=str,
)
def test_names_and_aliases_lead_to_providers(names: list[str], found: list[str]) -> None:
    """Case does not matter, the caller's order is kept, and who is named twice counts once, where it first stood."""
    assert [provider.name for provider in CATALOGUE.resolve(names)] == found


def test_unknown_names_are_all_told() -> None:
    """The refusal lists each unknown name once, as it was written, and the canonical names that there are."""
    with pytest.raises(Refused, match="UNKNOWN_PROVIDER") as refused:
        CATALOGUE.resolve(["x", "Alpha", "Y", "x"])
    assert refused.value.details == {"unknown": ["x", "Y"], "allowed": ["Alpha", "beta", "gamma"]}


def test_a_name_that_two_providers_claim_is_refused() -> None:
    """Every clash is told at once: of alias and name, of alias and alias, of names that differ in case."""
    with pytest.raises(ValueError, match="claimed") as refused:
        Providers(
            [Provider("alpha", aliases=("x",)), Provider("beta", aliases=("Alpha", "X")), Provider("ALPHA")]
        )
    assert str(refused.value) == (
        "'Alpha' is claimed by both 'alpha' and 'beta'; 'X' is claimed by both 'alpha' and 'beta'; "
        "'ALPHA' is claimed by both 'alpha' and 'ALPHA'"
    )


def test_a_provider_may_repeat_itself() -> None:
    """An alias that is the provider's own name, or stands twice, is no clash."""
    assert (
        Providers([Provider("alpha", aliases=("alpha", "ALPHA", "a", "a"))]).resolve(["A"])[0].name == "alpha"
    )


def test_smart_selection_needs_one_usable_provider() -> None:
    """None configured, or none usable, leaves nothing to select from."""
    assert CATALOGUE.any_usable
    assert not Providers([]).any_usable
    assert not Providers([Provider("x", is_active=False), Provider("y", is_operational=False)]).any_usable
