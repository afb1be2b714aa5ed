"""The release before this one, unpacked from the history, to run beside it."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

EARLIER = "9fc69e4e53b493f2aff1a492b1337abbd6474e51"
"""The revision that landed last before this one's changes; to be set anew with each release."""


class NotInHistory(Exception):
    """The earlier revision is not there. The message says why, and what to do."""


@cache
def earlier() -> Path:
    """A directory that holds the earlier revision. It runs with the libraries that are installed here.

    Raises ``NotInHistory``.
    """
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{EARLIER}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode:
        raise NotInHistory(
            f"revision {EARLIER[:7]} is not in this clone's history: run `git fetch --unshallow` first"
        )
    directory = Path(tempfile.gettempdir()) / f"sms-gateway-{EARLIER[:12]}"
    if not directory.exists():
        fresh = Path(tempfile.mkdtemp(prefix="sms-gateway-earlier-"))
        archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "--extract", "--directory", fresh], input=archive.stdout, check=True)
        try:
            fresh.rename(directory)
        except OSError:  # Another lane was faster.
            return fresh
    return directory
