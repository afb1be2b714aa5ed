"""Certificates of an authority of the tests' own, as files, and what they are good for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import trustme

from tests.support.servers import HOST

NAME = "localhost"
"""The name under which the tests' servers are certified, beside their address."""

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Pair:
    """A certificate, with its chain, and its key, in two files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cert = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"

    @property
    def query(self) -> str:
        """How a URL names it."""
        return f"certfile={self.cert}&keyfile={self.key}"


class Authority:
    """An authority whose certificate is ``file``; what it issues is written to ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str, ends: dt.datetime | None = None) -> Pair:
        """A certificate for these names and addresses, until ``ends``; in the files of an earlier one by this name."""
        issued = self._ca.issue_cert(*(identities or (NAME, HOST)), not_after=ends)
        pair = Pair(self._folder, f"{self._name}-{name}")
        replace(pair.key, issued.private_key_pem.bytes())
        replace(pair.cert, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return pair


def replace(path: Path, content: bytes) -> None:
    """Put this in the place of a file in one step, as those do who rotate certificates."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)
