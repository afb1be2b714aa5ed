"""The schemas, and the words in which they refuse."""

from __future__ import annotations

import json
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest
from jsonschema.exceptions import SchemaError

import schemas
from schemas import Schema, Violation, load

REQUEST: dict[str, Any] = {"to": "+14155552671", "text": "Hello"}


def without(member: str) -> dict[str, Any]:
    return {name: value for name, value in REQUEST.items() if name != member}


def broken(instance: object, schema: str = "request") -> list[tuple[str, str]]:
    """The places and rules that both engines refuse ``instance`` for."""
    violations = load(schema).violations(instance)
    assert load(schema).is_valid(instance) == (not violations)
    return [(violation.pointer, violation.rule) for violation in violations]


def test_every_file_is_a_schema_that_load_knows() -> None:
    """Each JSON file beside the module is loaded by its name, names its draft and has an id of its own."""
    stems = sorted(path.stem for path in Path(schemas.__file__).parent.glob("*.json"))
    assert schemas.names() == stems
    assert {"request", "error", "envelope", "heartbeat", "clients", "providers"} <= set(stems)
    documents = [load(name).document for name in stems]
    assert {document["$schema"] for document in documents} == {"https://json-schema.org/draft/2020-12/schema"}
    assert len({document["$id"] for document in documents}) == len(stems)


def test_a_schema_is_compiled_once() -> None:
    """Loading a name again gives the same object."""
    assert load("request") is load("request")


def test_a_document_that_is_no_schema_is_refused() -> None:
    """A misspelt type is found when the schema is compiled, not when a request comes."""
    with pytest.raises(SchemaError):
        Schema({"type": "strnig"})


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (REQUEST, []),
        (REQUEST | {"providers": None}, []),
        (REQUEST | {"providers": []}, []),
        (REQUEST | {"providers": ["a"] * 16}, []),
        (REQUEST | {"ttl_seconds": 10}, []),
        (REQUEST | {"ttl_seconds": 86400}, []),
        (REQUEST | {"ttl_seconds": 60.0}, []),
        (REQUEST | {"text": "x" * 1600}, []),
        (REQUEST | {"text": "\U0001f600" * 1600}, []),
        (REQUEST | {"text": " \n a"}, []),
        (REQUEST | {"to": "+12"}, []),
        (REQUEST | {"to": "+123456789012345"}, []),
        (without("to"), [("/to", "required")]),
        (without("text"), [("/text", "required")]),
        ({}, [("/text", "required"), ("/to", "required")]),
        ([], [("", "type")]),
        (None, [("", "type")]),
        ("text", [("", "type")]),
        (REQUEST | {"from": "me"}, [("/from", "additionalProperties")]),
        (REQUEST | {"to": "14155552671"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+04155552671"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+1"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+1234567890123456"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+14155552671\n"}, [("/to", "pattern")]),
        (REQUEST | {"to": " +14155552671"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+1\u0664\u0661\u0665"}, [("/to", "pattern")]),
        (REQUEST | {"to": "+1\uff14"}, [("/to", "pattern")]),
        (REQUEST | {"to": 14155552671}, [("/to", "type")]),
        (REQUEST | {"text": ""}, [("/text", "minLength")]),
        (REQUEST | {"text": "x" * 1601}, [("/text", "maxLength")]),
        (REQUEST | {"text": " \t\u2003\u3000 "}, [("/text", "pattern")]),
        (REQUEST | {"text": "a\0b"}, [("/text", "pattern")]),
        (REQUEST | {"text": "\n"}, [("/text", "pattern")]),
        (REQUEST | {"text": "\0\n"}, [("/text", "pattern")]),
        (REQUEST | {"text": None}, [("/text", "type")]),
        (REQUEST | {"providers": "a"}, [("/providers", "type")]),
        (REQUEST | {"providers": ["a"] * 17}, [("/providers", "maxItems")]),
        (REQUEST | {"providers": [1] * 17}, [("/providers", "maxItems")]),
        (REQUEST | {"providers": ["", "a", 5]}, [("/providers/0", "minLength"), ("/providers/2", "type")]),
        (REQUEST | {"providers": ["x" * 65]}, [("/providers/0", "maxLength")]),
        (REQUEST | {"ttl_seconds": 9}, [("/ttl_seconds", "minimum")]),
        (REQUEST | {"ttl_seconds": 86401}, [("/ttl_seconds", "maximum")]),
        (REQUEST | {"ttl_seconds": True}, [("/ttl_seconds", "type")]),
        (REQUEST | {"ttl_seconds": None}, [("/ttl_seconds", "type")]),
        (REQUEST | {"ttl_seconds": 60.5}, [("/ttl_seconds", "type")]),
        (REQUEST | {"ttl_seconds": "60"}, [("/ttl_seconds", "type")]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, (dict, str)) else None,
)
def test_a_request_is_judged_by_each_of_its_rules(instance: object, expected: list[tuple[str, str]]) -> None:
    """Every rule refuses what it is there for and nothing else, and both engines agree."""
    assert broken(instance) == expected


def test_every_violation_is_found() -> None:
    """One request that breaks a rule in each member is told of all of them at once, in the order of the places."""
    instance = {"to": "5", "text": "", "providers": [""], "ttl_seconds": 1, "x": 1}
    assert broken(instance) == [
        ("/providers/0", "minLength"),
        ("/text", "minLength"),
        ("/to", "pattern"),
        ("/ttl_seconds", "minimum"),
        ("/x", "additionalProperties"),
    ]


EXTRA = "'to', 'text', 'providers' and 'ttl_seconds' are the only members"


@pytest.mark.parametrize("name", ["from", "_", "sender-id", "app.version", "to2", "n\u00famero", "x" * 32])
def test_an_extra_member_of_a_request_is_named(name: str) -> None:
    """Its place is where it stands; what it holds is not told."""
    (violation,) = load("request").violations({**REQUEST, name: "a value that nobody tells"})
    assert violation.as_json() == {"path": f"/{name}", "message": EXTRA, "rule": "additionalProperties"}
    assert load("request").violations_fast({**REQUEST, name: 1}) == [violation]


@pytest.mark.parametrize(
    "name",
    [
        *("", "A text in a name's place", "+14155552671", "4711", "a/b", "a~b", "x" * 33, "x" * 1_000_000),
        "sms_" + "k" * 43,
        *("to\u200b", "\u202eto", "\x1b[2J", "to\0", "to\n", "\x9b", "\ud800"),
    ],
    ids=lambda name: repr(name[:12]),
)
def test_what_does_not_read_as_a_name_is_not_repeated(name: str) -> None:
    """It may be private, or endless, or steer a terminal: the sender is told that there is such a member."""
    (violation,) = load("request").violations({**REQUEST, name: 1})
    assert violation.as_json() == {"path": "", "message": EXTRA, "rule": "additionalProperties"}


def test_of_many_extra_members_the_first_are_named() -> None:
    """A refusal stays short, whatever is sent; that there are more is told."""
    for count in (16, 17, 2000):
        found = load("request").violations({**REQUEST, **{f"m{number:04}": 1 for number in range(count)}})
        more = [""] if count > 16 else []
        assert [violation.pointer for violation in found] == [
            *more,
            *(f"/m{number:04}" for number in range(16)),
        ]


@pytest.mark.parametrize("name", ["clients", "providers"])
def test_an_extra_member_of_a_configuration_is_not_named(name: str) -> None:
    """An API key may stand there."""
    (violation,) = load(name).violations(
        {"k": {"name": "n", "s3cr3t": 1} if name == "clients" else {"s3cr3t": 1}}
    )
    assert (violation.pointer, violation.rule) == ("/k", "additionalProperties")
    assert "s3cr3t" not in violation.message


def test_what_is_valid_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand clients are judged by the fast engine alone."""
    schema = Schema({"maxLength": 2})
    (violation,) = schema.violations_unless_valid("abc")
    assert violation.rule == "maxLength"
    monkeypatch.setattr(Schema, "violations", lambda *_: pytest.fail("it was explained"))
    assert schema.violations_unless_valid("ab") == []


@pytest.mark.parametrize(
    "instance", [{"k": {"name": date(2025, 11, 23)}}, {"k": {"name": time(16, 40)}}], ids=str
)
def test_what_json_does_not_have_is_explained(instance: object) -> None:
    """TOML has dates and times, which the fast engine does not take at all."""
    found = load("clients").violations_unless_valid(instance)
    assert [(violation.pointer, violation.rule) for violation in found] == [("/k/name", "type")]


def test_a_written_message_goes_before_a_generated_one() -> None:
    """``errorMessage`` beside a rule is what the reader is told; without one the rule and its limit are."""
    by_rule = {
        violation.rule: violation.message
        for violation in load("request").violations({"to": "5", "text": "x" * 1601, "ttl_seconds": 5})
    }
    assert by_rule["pattern"].startswith("must be an E.164 number")
    assert by_rule["maxLength"] == "must have at most 1600 characters"
    assert by_rule["minimum"] == "must be at least 10"


@pytest.mark.parametrize(
    ("rule", "instance", "message"),
    [
        ({"type": "string"}, 1, "must be of type string"),
        ({"type": ["array", "null"]}, 1, "must be of type array or null"),
        ({"minLength": 1}, "", "must have at least 1 character"),
        ({"minLength": 2}, "", "must have at least 2 characters"),
        ({"maxLength": 2}, "abc", "must have at most 2 characters"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 items"),
        ({"minimum": 3}, 2, "must be at least 3"),
        ({"maximum": 3}, 4, "must be at most 3"),
        ({"additionalProperties": False}, {"a": 1}, "has members that are not allowed here"),
        ({"const": 1}, 2, "breaks the rule 'const' of the schema"),
    ],
    ids=str,
)
def test_a_generated_message_names_the_limit(rule: dict[str, Any], instance: object, message: str) -> None:
    """A rule without words of its own is described by its keyword and limit."""
    assert [violation.message for violation in Schema(rule).violations(instance)] == [message]


def test_a_pointer_escapes_as_rfc_6901_says() -> None:
    """``~`` and ``/`` in a member's name do not read as steps; the whole instance is the empty string."""
    assert Violation(("a/b", "~", 0), "m", "r").pointer == "/a~1b/~0/0"
    assert Violation((), "m", "r").pointer == ""
    assert Violation(("to",), "m", "r").as_json() == {"path": "/to", "message": "m", "rule": "r"}
