"""JSON and TOML in configuration, read strictly: what readers could disagree about is a mistake."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any


def parse(text: str) -> Any:
    """The document in ``text``. Raises ``ValueError``, which says where the mistake is and quotes nothing of it."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not JSON ({place}): check quotes, commas and braces there") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return checked(document)


def read_toml(path: Path) -> dict[str, Any]:
    """The document in a TOML file. Raises ``ValueError``, which says of the file what is wrong with it."""
    try:
        # A pipe would keep us waiting for who writes to it.
        if path.exists() and not path.is_file():
            raise ValueError("is no regular file")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def checked(document: Any) -> Any:
    """The document, if it can be written in UTF-8. Raises ``ValueError``."""
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise ValueError("holds an unpaired surrogate (\\ud800 to \\udfff), which is no character") from None
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(
            "an object names a member twice: the second would hide the first; leave one of the two"
        )
    return members
