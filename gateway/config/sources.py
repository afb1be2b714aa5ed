"""Where settings stand: in the environment, or in the TOML file that it names; each in one of the two."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.config import documents
from gateway.config.parsers import EMBEDDED
from gateway.config.variables import Variable

FILE = "GATEWAY_CONFIG"
"""The variable that names the file."""

IN_FILE = f"in the file of {FILE}"

_PARTS = ("pipeline", "stage", "clients", "providers")


class Kind(Protocol):
    """A module that judges one kind of document."""

    def mistakes(self, document: object) -> list[str]:
        """What is wrong with it."""

    def warnings(self, document: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a valid one had better not do."""


class Sources:
    """The environment and the file. Reads everything before anybody complains.

    ``mistakes`` and ``warnings`` hold what was found so far, ``file`` the document in the file, which is empty where
    there is none.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[str] = []
        self.warnings: list[str] = []
        self.file = self._read_file()

    def text(self, name: str) -> str | None:
        """What stands in a variable; None for nothing."""
        # Compose and systemd set a variable that was left out to the empty string.
        return self.environ.get(name) or None

    def value(self, variable: Variable) -> Any:
        """The value of a variable or its default; None where there is neither, and for a mistake."""
        text = self.text(variable.name)
        if text is None and variable.is_required:
            self.mistakes.append(
                f"{variable.name}: is not set. Write {variable.name}={variable.example}, or "
                f"{variable.name}={EMBEDDED}var/gateway.db to keep it in one file on this machine"
            )
        if text is None:
            text = variable.default
        if text is None:
            return None
        try:
            return variable.read(text)
        except ValueError as error:
            self.mistakes.append(f"{variable.name}: {error}")
            return None

    def is_in_file(self, variable: Variable) -> bool:
        """Whether the file has it; complains when the environment has it too."""
        is_there = variable.part in self.file
        if is_there and self.text(variable.name) is not None:
            self.mistakes.append(
                f"{variable.name} and '{variable.part}' {IN_FILE} are both set: keep one of the two"
            )
        return is_there

    def document(self, variable: Variable, kind: Kind) -> dict[str, Any]:
        """Clients or providers; empty where there are none, and for a mistake."""
        is_in_file = self.is_in_file(variable)
        where = f"[{variable.part}] {IN_FILE}" if is_in_file else variable.name
        try:
            document = (
                documents.checked(self.file[variable.part])
                if is_in_file
                else documents.parse(self.text(variable.name) or "{}")
            )
        except ValueError as error:
            self.mistakes.append(f"{where}: {error}")
            return {}
        found = kind.mistakes(document)
        if found:
            self.mistakes += [f"{where}: {mistake}" for mistake in found]
            return {}
        self.warnings += kind.warnings(document)
        return dict(document)

    def _read_file(self) -> dict[str, Any]:
        path = self.text(FILE)
        if path is None:
            return {}
        # What names no file may be anything, the file's own content and its secrets included.
        file = f"the file '{path}'" if os.path.exists(path) else "the file that it names"  # noqa: PTH110 - it raises nothing
        try:
            document = documents.read_toml(Path(path))
        except ValueError as error:
            self.mistakes.append(f"{FILE}: {file} {error}")
            return {}
        self.mistakes += [f"{FILE}: {file} {words}" for words in documents.unknown(document, _PARTS)]
        return document
