"""Documents in configuration."""

from __future__ import annotations

import re

import pytest

from gateway.documents import checked, parse


def test_what_is_written_is_read() -> None:
    """Any JSON document, escapes and all."""
    assert parse('{"a": ["é", "\\u00e9", 1.5, null]}') == {"a": ["é", "é", 1.5, None]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not JSON (line 1, column 1)"),
        ('{"a": s3cr3t}', "is not JSON (line 1, column 7)"),
        ('{"s3cr3t": 1, "s3cr3t": 2}', "an object names a member twice"),
        ('[{"b": {"s3cr3t": 1, "s3cr3t": 1}}]', "an object names a member twice"),
        ("[" * 100_000, "is nested too deeply"),
        ('"\\ud800"', "holds an unpaired surrogate"),
        ('{"caf\udce9": 1}', "holds an unpaired surrogate"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_is_no_json_is_told_without_quoting_it(text: str, told: str) -> None:
    """Nothing that an operator may have written is a traceback, and no secret is repeated."""
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        parse(text)
    assert "s3cr3t" not in str(raised.value)


def test_what_was_read_elsewhere_is_checked_alike() -> None:
    """A document from a file is held to what one from a variable is, dates and all."""
    assert checked({"a": [1]}) == {"a": [1]}
    with pytest.raises(ValueError, match="unpaired surrogate"):
        checked({"a": ["\ud800"]})
