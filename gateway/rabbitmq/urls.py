"""The URLs that RabbitMQ may have: one, or those of several nodes of one cluster."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

HEARTBEAT_SECONDS = 5
"""Asked of the broker unless the URL asks for another: a dead peer is then noticed after 18 s at the latest."""


def parse(url: str, purpose: str = "") -> list[str]:
    """The URL of each node, with a short heartbeat and the connection's name, ``purpose``, where it sets none itself.

    Opens nothing. Raises ``ValueError``: what the URL must be instead, without quoting it.
    """
    found = [_one(one) for one in re.split(r",\s*(?=[a-z]+://)", url.strip())]
    usable = [parts for parts in found if parts is not None]
    if len(usable) < len(found):
        raise ValueError(
            "must be amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST] (amqps:// for TLS), or several such of one cluster, "
            "separated by commas, with special characters percent-encoded"
        )
    return [_with_options(parts, purpose) for parts in usable]


def _one(url: str) -> SplitResult | None:
    """The parts of an AMQP URL. None for any other: what urllib says of it might repeat the password."""
    try:
        parts = urlsplit(url)
        has_place = re.fullmatch(r"[^\s,]+", parts.hostname or "") is not None and parts.port != 0
    except ValueError:
        return None
    # A comma in the path is more often the beginning of another node than part of a name.
    is_plain = not parts.fragment and "," not in parts.path
    return parts if parts.scheme in {"amqp", "amqps"} and has_place and is_plain else None


def _with_options(parts: SplitResult, purpose: str) -> str:
    given = parse_qs(parts.query)
    options = {"heartbeat": str(HEARTBEAT_SECONDS), "name": quote(purpose)}
    added = [f"{name}={value}" for name, value in options.items() if value and name not in given]
    return parts._replace(query="&".join(filter(None, (parts.query, *added)))).geturl()
