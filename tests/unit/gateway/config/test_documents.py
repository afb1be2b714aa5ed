"""Documents in configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.documents import checked, parse, read_toml, unknown

PARTS = ("pipeline", "stage", "clients", "providers")


def toml(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_bytes(content)
    return path


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


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    """In UTF-8, as TOML always is."""
    assert read_toml(toml(tmp_path, 'a = "é"'.encode())) == {"a": "é"}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"[a.s3cr3t]\n[a.s3cr3t]", "line 2, column"),
        (b"a = {s3cr3t = 1, s3cr3t = 2}", "line 1, column"),
        (b"s3cr3t = 1\ns3cr3t = 2\n", "line 2, column"),
        (b"s3cr3t", "end of document"),
        (b"a = s3cr3t", "line 1, column"),
        (b'a = "s3cr3t', "end of document"),
    ],
    ids=repr,
)
def test_what_is_no_toml_is_told_by_its_place(tmp_path: Path, content: bytes, place: str) -> None:
    """The parser's own words would quote a key, and an API key is one."""
    with pytest.raises(ValueError, match=f"^is not TOML .at {place}") as raised:
        read_toml(toml(tmp_path, content))
    assert "s3cr3t" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_part_that_is_not_known_is_named_only_when_it_is_nearly_known() -> None:
    """Anything else may be an API key whose heading was forgotten: such parts are counted."""
    assert unknown({"pipeline": 1, "client": 2}, PARTS) == [
        "has 'client', which is not known: did you mean 'clients'?"
    ]
    known = "it may hold pipeline, stage, clients, providers"
    assert unknown({"s3cr3t-1": 1}, PARTS) == [f"has a part that is not known: {known}"]
    assert unknown({"s3cr3t-1": 1, "s3cr3t-2": 1}, PARTS) == [f"has 2 parts that are not known: {known}"]
