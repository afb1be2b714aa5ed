"""The catalogue of providers."""

from __future__ import annotations

import time

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


def test_one_that_is_usable_is_enough_for_smart_selection() -> None:
    """Known in advance: it is asked for every message that names none."""
    assert CATALOGUE.any_usable is True
    assert Providers([Provider("beta", is_active=False)]).any_usable is False
    assert Providers([]).any_usable is False


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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("alhpa", "alpha"),
        ("alpa", "alpha"),
        ("alphha", "alpha"),
        ("alpho", "alpha"),
        ("ALPHa-SMS", None),
        ("Alfha", "alpha"),
        ("primry", "primary"),
        ("primary2", "primary"),
        ("b2", None),
        ("x", None),
        ("ab", None),
        ("ahpla", None),
        ("zeta", "beta"),
        ("omega", None),
        ("", None),
    ],
)
def test_a_slip_of_the_pen_is_told_what_was_meant(written: str, meant: str | None) -> None:
    """One character too many, too few or wrong, or two that changed places; a guess further off would mislead."""
    catalogue = Providers([Provider("alpha", aliases=("a", "primary")), Provider("beta", aliases=("b",))])
    with pytest.raises(Refused) as refused:
        catalogue.resolve([written, "beta", written])
    assert refused.value.details == {
        "unknown": [written],
        "allowed": ["alpha", "beta"],
        **({"suggestions": {written: meant}} if meant else {}),
    }


def test_of_two_that_may_have_been_meant_the_first_configured_is_told() -> None:
    """The answer is the same each time."""
    with pytest.raises(Refused) as refused:
        Providers([Provider("alpha-1"), Provider("alpha-2")]).resolve(["alpha-", "alpha-3"])
    assert refused.value.details is not None
    assert refused.value.details["suggestions"] == {"alpha-": "alpha-1", "alpha-3": "alpha-1"}


def test_sixteen_long_names_cost_little_to_guess_at() -> None:
    """As many as a request may hold, each as long as it may be, beside as many providers as are compared at all."""
    catalogue = Providers([Provider(f"{number:04}" + "x" * 60) for number in range(1000)])
    names = [f"{number:02}" + "\u0149" * 62 for number in range(16)]
    started = time.thread_time()
    with pytest.raises(Refused):
        catalogue.resolve(names)
    assert time.thread_time() - started < 0.05


def test_of_very_many_providers_none_is_guessed_at() -> None:
    """An index of them would take more memory than a guess is worth."""
    for count, told in ((1000, True), (1001, False)):
        with pytest.raises(Refused) as refused:
            Providers([Provider(f"provider-{number}") for number in range(count)]).resolve(["provder-7"])
        assert refused.value.details is not None
        assert ("suggestions" in refused.value.details) == told


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
