"""JSON and TOML in configuration, read strictly: what readers could disagree about is a mistake."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def meant(written: str, known: Sequence[str], likeness: float = 0.6) -> str | None:
    """Which of ``known`` was meant, where ``written`` is a slip of it; only that may be shown."""
    near = difflib.get_close_matches(written.lower(), known, n=1, cutoff=likeness)
    # What is much longer may be a key that merely begins like it.
    return next((name for name in near if len(written) <= len(name) + 3), None)


def unknown(document: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    """What is said of the parts of a document that are not among ``parts``."""
    near = {part: meant(part, parts) for part in document if part not in parts}
    told = [
        f"has '{part}', which is not known: did you mean '{name}'?" for part, name in near.items() if name
    ]
    strange = sum(not name for name in near.values())
    if strange:
        # Not by name: an API key stands there where the heading [clients] was forgotten.
        count = "a part that is" if strange == 1 else f"{strange} parts that are"
        told.append(f"has {count} not known: it may hold {', '.join(parts)}")
    return told


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
        # Its words may quote the key of a table, and an API key is one: only the place is told.
        place = re.search(r" \(at [a-z0-9, ]+\)$", str(error))
        raise ValueError(f"is not TOML{place[0] if place else ''}") from None
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
