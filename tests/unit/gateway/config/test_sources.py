"""Where settings stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import providers
from gateway.config.parsers import whole
from gateway.config.sources import Sources
from gateway.config.variables import Variable

SIZE = Variable("SIZE", "how big it is", whole(1, 9), default="3")
URL = Variable("URL", "where it is", example="redis://localhost", is_required=True)
NOTE = Variable("NOTE", "what to remember")
PROVIDERS = Variable("PROVIDERS", "who delivers", part="providers")


def sources(tmp_path: Path, text: str | None = None, **environ: str) -> Sources:
    """The environment, and a file with this text."""
    if text is not None:
        (tmp_path / "gateway.toml").write_text(text, encoding="utf-8")
        environ["GATEWAY_CONFIG"] = str(tmp_path / "gateway.toml")
    return Sources(environ)


@pytest.mark.parametrize(
    ("environ", "variable", "value", "mistakes"),
    [
        ({"SIZE": "9"}, SIZE, 9, []),
        ({}, SIZE, 3, []),
        ({"SIZE": ""}, SIZE, 3, []),
        ({"SIZE": "s3cr3t"}, SIZE, None, ["SIZE: must be a whole number from 1 to 9"]),
        ({}, NOTE, None, []),
        ({"NOTE": "x"}, NOTE, "x", []),
        ({"URL": "redis://x"}, URL, "redis://x", []),
    ],
)
def test_a_value_is_what_is_written_or_the_default(
    environ: dict[str, str], variable: Variable, value: object, mistakes: list[str]
) -> None:
    """A variable that is set to nothing is an unset one, and whatever is wrong is told with what to write."""
    found = Sources(environ)
    assert found.value(variable) == value
    assert found.mistakes == mistakes


def test_what_must_be_set_is_told_with_what_to_write() -> None:
    """Nobody runs a gateway to nowhere by forgetting a variable."""
    found = Sources({"URL": ""})
    assert found.value(URL) is None
    (told,) = found.mistakes
    assert told.startswith("URL: is not set. Write URL=redis://localhost, or URL=embedded:")


def test_a_document_stands_in_the_environment_or_in_the_file(tmp_path: Path) -> None:
    """Both give the same, and neither gives nothing."""
    for found in (
        sources(tmp_path, PROVIDERS='{"alpha": {"note": "x"}}'),
        sources(tmp_path, '[providers.alpha]\nnote = "x"'),
    ):
        assert found.document(PROVIDERS, providers) == {"alpha": {"note": "x"}}
        assert (found.mistakes, found.warnings) == ([], [])
    none = sources(tmp_path, "")
    assert none.document(PROVIDERS, providers) == {}
    assert none.warnings == providers.warnings({})


def test_what_stands_in_two_places_is_told(tmp_path: Path) -> None:
    """Neither wins without a word."""
    found = sources(tmp_path, "[providers.alpha]", PROVIDERS="{}")
    assert found.is_in_file(PROVIDERS)
    assert found.mistakes == [
        "PROVIDERS and 'providers' in the file of GATEWAY_CONFIG are both set: keep one of the two"
    ]


def test_a_mistake_says_where_the_document_stands(tmp_path: Path) -> None:
    """The variable, or the table of the file; and warnings of what is refused would only be in the way."""
    written = sources(tmp_path, PROVIDERS='{"alpha": {"is_active": 1}}')
    in_file = sources(tmp_path, "[providers.alpha]\nis_active = 1")
    assert [found.document(PROVIDERS, providers) for found in (written, in_file)] == [{}, {}]
    assert written.mistakes == ["PROVIDERS: /alpha/is_active: must be of type boolean"]
    assert in_file.mistakes == [
        "[providers] in the file of GATEWAY_CONFIG: /alpha/is_active: must be of type boolean"
    ]
    assert written.warnings == in_file.warnings == []


def test_a_file_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    """One in another encoding, or that is not there, is a mistake, not a traceback; all the rest is read on."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b'pipeline = ["\xe9"]')
    found = Sources({"GATEWAY_CONFIG": str(path), "SIZE": "4"})
    assert found.mistakes == [f"GATEWAY_CONFIG: the file '{path}' is not in UTF-8"]
    assert (found.file, found.value(SIZE)) == ({}, 4)
    path.unlink()
    assert "No such file" in Sources({"GATEWAY_CONFIG": str(path)}).mistakes[0]


def test_a_part_that_is_not_known_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    """A misspelt heading must not pass for one that was left out."""
    found = sources(tmp_path, "[provider.alpha]\n[providers.beta]")
    assert found.mistakes[0].endswith("has 'provider', which is not known: did you mean 'providers'?")
    assert found.document(PROVIDERS, providers) == {"beta": {}}
