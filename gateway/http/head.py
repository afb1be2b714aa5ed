"""What RFC 9112 asks of a request's head and the parser lets pass: a version that is served, one Host, one coding."""

from __future__ import annotations

import re
from functools import lru_cache

JUDGED = frozenset({b"host", b"expect", b"transfer-encoding"})
"""The headers, in lower case, that are looked at while a head arrives."""

# RFC 3986, 3.2.2 and 3.2.3. Whether an address in brackets is one does not matter here: it leads nowhere else.
_NAME = rb"(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_ADDRESS = rb"\[[\w:.~!$&'()*+,;=-]+\]"
_HOST = re.compile(rb"(?:%b|%b)(?::[0-9]*)?" % (_NAME, _ADDRESS))


class MalformedHead(ValueError):
    """A head that is refused. The text tells its sender the rule, and quotes nothing."""


@lru_cache(maxsize=64)  # All clients call the gateway by few names.
def check_host(value: bytes) -> None:
    """Raise ``MalformedHead`` for a Host that names none (RFC 9110, 4.2.1 and 7.2)."""
    if not _HOST.fullmatch(value.strip(b" \t")):
        raise MalformedHead("The header Host must be a host, and a port where it has one.")


def check_transfer_coding(value: bytes, version: str) -> None:
    """Raise ``MalformedHead`` for codings other than ``chunked`` alone, and for any in HTTP/1.0 (RFC 9112, 6.1)."""
    if version == "1.0" or value.strip(b" \t").lower() != b"chunked":
        raise MalformedHead("The only Transfer-Encoding that is taken is chunked, in HTTP/1.1.")


def check_whole(version: str, hosts: int) -> None:
    """Raise ``MalformedHead`` for another version, and for too many or too few ``hosts`` (RFC 9112, 3.2)."""
    if hosts == 1 and version == "1.1":
        return
    if version not in ("1.0", "1.1"):
        raise MalformedHead("The versions that are served are HTTP/1.1 and HTTP/1.0.")
    if hosts > 1 or version == "1.1":
        raise MalformedHead("A request has exactly one header Host.")
