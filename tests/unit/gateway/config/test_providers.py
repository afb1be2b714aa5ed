"""The configured providers."""

from __future__ import annotations

import pytest

from gateway.config.providers import catalogue, mistakes, warnings
from pipeline.providers import Provider


def test_absent_members_have_their_defaults() -> None:
    """A provider is wanted and working, without aliases, unless the configuration says otherwise."""
    assert catalogue({"alpha": {}}).by_name == {"alpha": Provider("alpha", True, True, ())}


def test_every_member_is_read() -> None:
    """What operators write is what the gate looks at; the note is for people."""
    entry = {"is_active": False, "is_operational": False, "aliases": ["a", "b"], "note": "down until May"}
    assert mistakes({"alpha": entry}) == []
    assert catalogue({"alpha": entry}).by_name == {"alpha": Provider("alpha", False, False, ("a", "b"))}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], ["the whole document: must be of type object"]),
        ({"alpha": []}, ["entry 1: must be of type object"]),
        (
            {"alpha\n": {}},
            ["the whole document: the provider's name must be 1 to 64 characters without control characters"],
        ),
        (
            {"alpha": {"aliases": ["a\n"]}},
            ["/alpha/aliases/0: must be 1 to 64 characters without control characters"],
        ),
        ({"alpha": {"note": 5}}, ["/alpha/note: must be of type string or null"]),
        (
            {"": {}},
            ["the whole document: the provider's name must be 1 to 64 characters without control characters"],
        ),
        (
            {"a": {"is_active": None, "aliases": [1]}},
            ["/a/aliases/0: must be of type string", "/a/is_active: must be of type boolean"],
        ),
    ],
    ids=str,
)
def test_every_mistake_is_told_by_its_place(document: object, told: list[str]) -> None:
    """The place is a JSON Pointer into what the operator wrote."""
    assert mistakes(document) == told


def test_a_clash_is_told_with_its_reason() -> None:
    """Who does not know that case does not matter would not see the clash."""
    (told,) = mistakes({"alpha": {"aliases": ["x"]}, "beta": {"aliases": ["X"]}})
    assert told == (
        "'X' is claimed by both 'alpha' and 'beta': names and aliases are compared without case, "
        "and each leads to one provider"
    )


def test_a_configuration_that_refuses_everything_is_warned_of() -> None:
    """None at all, and none usable, are legal and useless."""
    assert len(warnings({})) == 1
    assert len(warnings({"alpha": {"is_active": False}})) == 1
    assert warnings({"alpha": {"is_active": False}, "beta": {}}) == []
