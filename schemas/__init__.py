"""The JSON Schemas of everything that crosses the gateway's border, compiled once.

Each ``NAME.json`` beside this file is a schema of JSON Schema draft 2020-12 and is checked against that draft's
meta-schema when it is loaded. Two engines read the same file: ``jsonschema-rs`` says in under a microsecond whether an
instance is valid, and ``jsonschema`` explains what was refused; ``tests/properties`` holds them to the same verdict.

A schema may carry ``errorMessage`` beside a rule (the convention of ajv-errors): an object from the rule's keyword to
what the reader is told. Neither these messages nor the generated ones repeat anything of the instance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

__all__ = ["Schema", "Violation", "load", "names"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that an instance breaks.

    ``path`` holds the member names and indices that lead to the place, ``rule`` the JSON Schema keyword.
    """

    path: tuple[str | int, ...]
    message: str
    rule: str

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901); the whole instance is the empty string."""
        return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in self.path)

    def as_json(self) -> dict[str, str]:
        """The form in which an INVALID_PAYLOAD refusal lists it."""
        return {"path": self.pointer, "message": self.message, "rule": self.rule}


class Schema:
    """One compiled schema.

    Raises ``jsonschema.exceptions.SchemaError`` when the document is no valid schema itself.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        Draft202012Validator.check_schema(document)
        self.document = document
        self._explainer = Draft202012Validator(document)
        self.is_valid = jsonschema_rs.Draft202012Validator(dict(document)).is_valid

    def violations(self, instance: object) -> list[Violation]:
        """Every rule that ``instance`` breaks, in the order of the places; none when it is valid."""
        found = {
            violation: None
            for error in self._explainer.iter_errors(instance)
            for violation in _explain(error)
        }
        return sorted(found, key=lambda violation: violation.pointer)


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
    return Schema(json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8")))


def _explain(error: ValidationError) -> Iterable[Violation]:
    path = tuple(error.absolute_path)
    rule = str(error.validator)
    limit: Any = error.validator_value
    if rule == "required":
        # jsonschema reports each missing member on its own but names it only in prose.
        instance: Any = error.instance
        for member in limit:
            if member not in instance:
                yield Violation((*path, member), "is required", rule)
        return
    written = error.schema.get("errorMessage", {}) if isinstance(error.schema, Mapping) else {}
    yield Violation(path, written.get(rule) or _describe(rule, limit), rule)


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
