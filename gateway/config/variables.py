"""What a declaration of a setting says: its environment variable, and all that is to be known of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
_KEY = "variable"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable.

    ``meaning``: what it sets, in Markdown, as a clause without a full stop.
    ``read``: turns its text into the value, or raises ``ValueError``, which says what to write instead and never
    repeats the text: it may be a secret.
    ``default``: as one would write it; None for none.
    ``example``: what one could write where there is no default.
    ``is_required``: whether the gateway cannot do without it.
    ``part``: the part of the TOML file that may hold it in the variable's place; empty for none.
    """

    name: str
    meaning: str
    read: Callable[[str], Any] = str
    default: str | None = None
    example: str | None = None
    is_required: bool = False
    part: str = ""


def setting(
    name: str,
    *,
    meaning: str,
    read: Callable[[str], T],
    default: str | None = None,
    example: str | None = None,
    is_required: bool = False,
    is_secret: bool = False,
) -> T:
    """Declare a field of a data class as the value of a variable; a secret one is not in the ``repr``.

    The type checker holds what ``read`` returns to the type of the field.
    """
    variable = Variable(name, meaning, read, default, example, is_required)
    declared: T = field(repr=not is_secret, metadata={_KEY: variable})
    return declared


def part_of_file(name: str, part: str, *, meaning: str, example: str | None = None) -> Any:
    """Declare a field as what stands in a variable, or instead in this part of the TOML file."""
    return field(metadata={_KEY: Variable(name, meaning, example=example, part=part)})


def declared_in(cls: type) -> Mapping[str, Variable]:
    """The variables that a data class declares, by its fields and in their order."""
    return {one.name: one.metadata[_KEY] for one in fields(cls) if _KEY in one.metadata}
