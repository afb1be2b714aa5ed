"""Offers to upgrade, such as Java's HTTP client makes with each request: passed over, as RFC 9110, 7.8 allows.

The parser would take the body of such a request for the new protocol's.
"""

from __future__ import annotations

import re

_OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


def pass_over(data: bytes) -> bytes:
    """``data``, which begins with a head, without the offers that stand in it.

    Nothing behind the head is touched: it may be a body, and one that grew would end in a request of its own.
    """
    if b"upgrade:" not in data.lower():
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    if head.count(b"\n") != head.count(b"\r\n"):
        # Whoever took a bare line feed for the end of a line would find the end of the head elsewhere.
        return data
    return _OFFER.sub(b"\r\nx-passed-over:", head) + end + rest
