"""The JSON Schemas of everything that crosses the gateway's border, compiled once.

Each ``NAME.json`` beside this file is a schema of JSON Schema draft 2020-12 and is checked against that draft's
meta-schema when it is loaded. Two engines read the same file: ``jsonschema-rs`` says in under a microsecond whether an
instance is valid, and quickly what is wrong with a request; ``jsonschema`` explains everything else that was refused.
``tests/properties`` holds them to the same verdict and the same explanation.

A schema may carry ``errorMessage`` beside a rule (the convention of ajv-errors): an object from the rule's keyword to
what the reader is told. Neither these messages nor the generated ones repeat anything of the instance. What does is the
path to a member that is one too many, and only where whoever wrote it is the one who is told (decision 6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator

__all__ = ["Schema", "Violation", "load", "names"]


_Path = tuple[str | int, ...]

# What a request may break, and where, is little; but where is for its sender to choose.
_MOST_TOLD = 1000

# Whose extra members are named. A configuration's are not: where a member is misplaced, an API key may be one.
_NAMES_EXTRA_MEMBERS = frozenset({"request"})
_MOST_NAMED = 16
# Shorter than an API key that we make.
_LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that an instance breaks.

    ``path`` holds the member names and indices that lead to the place, ``rule`` the JSON Schema keyword.
    """

    path: _Path
    message: str
    rule: str
    pointer: str = field(init=False)
    """The path as a JSON Pointer (RFC 6901); the whole instance is the empty string."""

    def __post_init__(self) -> None:
        """Write the pointer once: a violation is remembered and told again."""
        tokens = (str(token).replace("~", "~0").replace("/", "~1") for token in self.path)
        object.__setattr__(self, "pointer", "".join(f"/{token}" for token in tokens))

    def as_json(self) -> dict[str, str]:
        """The form in which an INVALID_PAYLOAD refusal lists it."""
        return {"path": self.pointer, "message": self.message, "rule": self.rule}


class Schema:
    """One compiled schema; ``names_extra_members`` says whether those that are not allowed are told by their names.

    Raises ``jsonschema.exceptions.SchemaError`` when the document is no valid schema itself.
    """

    def __init__(self, document: Mapping[str, Any], *, names_extra_members: bool = False) -> None:
        Draft202012Validator.check_schema(document)
        self.document = document
        self._names_extra_members = names_extra_members
        self._explainer = Draft202012Validator(document)
        self._fast = jsonschema_rs.Draft202012Validator(dict(document))
        self.is_valid = self._fast.is_valid
        self._told = lru_cache(_MOST_TOLD)(self._tell)

    def violations(self, instance: object) -> list[Violation]:
        """Every rule that ``instance`` breaks, in the order of the places; none when it is valid."""
        return _sorted(
            violation
            for error in self._explainer.iter_errors(instance)
            for violation in self._explain(
                tuple(error.absolute_path), error.instance, error.schema, str(error.validator)
            )
        )

    def violations_fast(self, instance: object) -> list[Violation]:
        """As ``violations`` for a schema without references, at a fifth of the cost: senders may break rules often.

        What the fast engine cannot read, such as an instance that is nested deeply, the other explains.
        """
        found: list[Violation] = []
        try:
            for error in self._fast.iter_errors(instance):
                path, place = tuple(error.instance_path), tuple(error.schema_path)
                if place[-1:] in self._SEVERAL:
                    around = _follow(self.document, place[:-1])
                    found += self._explain(path, _follow(instance, path), around, str(place[-1]))
                else:
                    found.append(self._told(path, place))
        except ValueError:
            return self.violations(instance)
        return found if len(found) == 1 else _sorted(found)

    # Rules of which the engines report each breach on its own, or all at once, and name the members in prose only.
    _SEVERAL = (("required",), ("additionalProperties",))

    def _explain(self, path: _Path, instance: Any, schema: Any, rule: str) -> list[Violation]:
        """What is said of ``instance``, which lies at ``path`` and breaks this rule of ``schema``."""
        # A schema may be a mere false, which has no rules.
        if isinstance(schema, Mapping):
            if rule == "required":
                return _missing(path, instance, schema[rule])
            if rule == "additionalProperties" and self._names_extra_members:
                return _extra(path, instance, schema)
        return [_broken(path, schema, rule)]

    def _tell(self, path: _Path, place: _Path) -> Violation:
        """What is said of whatever lies at ``path`` and breaks the rule at this ``place`` of the schema."""
        # A schema may be a mere false, which has no rules.
        *around, rule = place or ("false",)
        return _broken(path, _follow(self.document, around), str(rule))

    def violations_unless_valid(self, instance: object) -> list[Violation]:
        """As ``violations``, a hundred times as fast for what is valid: it is explained only when it was refused."""
        with suppress(ValueError):  # A date of TOML's, which JSON does not have.
            if self.is_valid(instance):
                return []
        return self.violations(instance)


def names() -> list[str]:
    """The names that ``load`` takes."""
    return sorted(
        entry.name.removesuffix(".json")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".json")
    )


@cache
def load(name: str) -> Schema:
    """The schema in ``NAME.json``; read and compiled at the first call."""
    document = json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
    return Schema(document, names_extra_members=name in _NAMES_EXTRA_MEMBERS)


def _sorted(violations: Iterable[Violation]) -> list[Violation]:
    return sorted(
        set(violations), key=lambda violation: (violation.pointer, violation.rule, violation.message)
    )


def _follow(document: Any, path: Iterable[str | int]) -> Any:
    for token in path:
        document = document[token]
    return document


def _missing(path: _Path, instance: Any, required: Iterable[str]) -> list[Violation]:
    return [
        Violation((*path, member), "is required", "required") for member in required if member not in instance
    ]


def _extra(path: _Path, instance: Any, schema: Mapping[str, Any]) -> list[Violation]:
    """The members that are not allowed: the first 16 by name, and once without a name that there are others."""
    rule = "additionalProperties"
    extra = [member for member in instance if member not in schema.get("properties", {})]
    named = [member for member in extra if _reads_as_a_name(member)][:_MOST_NAMED]
    places = [(*path, member) for member in named] + ([path] if len(named) < len(extra) else [])
    return [_broken(place, schema, rule) for place in places]


def _reads_as_a_name(member: str) -> bool:
    """Whether it is no text, number or key that got into a name's place, and neither endless nor hiding anything."""
    return len(member) <= _LONGEST_NAME and member.replace("-", "_").replace(".", "_").isidentifier()


def _broken(path: _Path, schema: Any, rule: str) -> Violation:
    limit = schema.get(rule) if isinstance(schema, Mapping) else None
    written = schema.get("errorMessage", {}) if isinstance(schema, Mapping) else {}
    return Violation(path, written.get(rule) or _describe(rule, limit), rule)


def _describe(rule: str, limit: Any) -> str:
    match rule:
        case "type":
            wanted = [limit] if isinstance(limit, str) else limit
            return "must be of type " + " or ".join(wanted)
        case "minLength":
            return f"must have at least {limit} character{'' if limit == 1 else 's'}"
        case "maxLength":
            return f"must have at most {limit} characters"
        case "maxItems":
            return f"must have at most {limit} items"
        case "minimum":
            return f"must be at least {limit}"
        case "maximum":
            return f"must be at most {limit}"
        case "additionalProperties":
            return "has members that are not allowed here"
        case _:
            return f"breaks the rule '{rule}' of the schema"
