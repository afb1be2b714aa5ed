"""The declaration of a setting."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.config.variables import Variable, declared_in, part_of_file, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Three that are declared, and one that follows from them."""

    secret: str = setting(
        "SECRET", meaning="it is a secret", read=str, example="x", is_required=True, is_secret=True
    )
    size: int = setting("SIZE", meaning="how big it is", read=int, default="3")
    table: str = part_of_file("TABLE", "table", meaning="what it holds", example="{}")
    follows: int


def test_the_variables_are_found_by_field_and_in_order() -> None:
    """What is declared is known; a field without a variable is passed over."""
    assert list(declared_in(Settings).items()) == [
        ("secret", Variable("SECRET", "it is a secret", str, None, "x", is_required=True)),
        ("size", Variable("SIZE", "how big it is", int, "3")),
        ("table", Variable("TABLE", "what it holds", str, None, "{}", part="table")),
    ]


def test_a_secret_is_not_shown() -> None:
    """Whoever prints the settings prints no password."""
    found = Settings(secret="s3cr3t", size=1, table="t", follows=2)
    assert "s3cr3t" not in repr(found)
    assert "size=1" in repr(found)


def test_a_default_is_text_and_no_value() -> None:
    """It is read like anything that operators write: a data class made without it is a bug."""
    with pytest.raises(TypeError, match="size"):
        Settings(secret="s3cr3t", table="t", follows=2)
