"""The scripts, each one atomic step on the server; their arguments stand in ``store.py``, which calls them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the SHA-1 (hex) by which the server knows it once it has seen it."""

    name: str
    source: bytes
    sha: bytes


def _script(name: str, *after: str) -> Script:
    """The script in ``<name>.lua``, which uses what the files ``after`` define."""
    texts = [files(__package__).joinpath(f"{part}.lua").read_bytes() for part in (*after, name)]
    source = b"\n".join(texts)
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


BEGIN = _script("begin", "record")
ARM = _script("arm", "record")
COMPLETE = _script("complete", "record", "counter")
RELEASE = _script("release", "record", "counter")
SUSPEND = _script("suspend", "record")
TAKE_WITH_CLAIM = _script("take_with_claim", "record", "counter")
TAKE_WITHOUT_CLAIM = _script("take_without_claim", "counter")
GIVE_BACK = _script("give_back", "counter")
