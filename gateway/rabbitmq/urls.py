"""The URLs that RabbitMQ may have: one, or those of several nodes of one cluster."""

from __future__ import annotations

import binascii
import re
import ssl
from base64 import b64decode
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, urlsplit

from gateway.tls.settings import Tls

HEARTBEAT_SECONDS = 5
"""Asked of the broker unless the URL asks for another: a dead peer is then noticed after 18 s at the latest."""


def _is_seconds(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", value) is not None and 1 <= int(value) <= 65534


def _holds_certificates(value: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=b64decode(value))
    except (binascii.Error, ValueError, ssl.SSLError):
        return False
    return True


# aiormq's: what it cannot read it takes for 0, for "do not verify", or finds out when it connects.
_OPTIONS: dict[str, tuple[Callable[[str], object], str]] = {
    "heartbeat": (_is_seconds, "whole seconds from 1 to 65534"),
    "timeout": (_is_seconds, "whole seconds from 1 to 65534"),
    "name": (bool, "the connection's name"),
    "auth": (lambda value: value.lower() in {"plain", "external"}, "plain or external"),
    "cafile": (bool, "the path of a file"),
    "capath": (bool, "the path of a directory"),
    "cadata": (_holds_certificates, "certificates in DER, encoded as base64 and then percent-encoded"),
    "certfile": (bool, "the path of a file"),
    "keyfile": (bool, "the path of a file"),
    "no_verify_ssl": (lambda value: value in {"0", "1"}, "0 or 1"),
}
# Those of TLS, which aiormq passes over where the URL does not ask for TLS.
_OF_TLS = {"cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}


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
    mistakes = list(dict.fromkeys(mistake for parts in usable for mistake in _mistakes(parts)))
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return [_with_options(parts, purpose) for parts in usable]


def tls(url: str) -> Tls | None:
    """How the node at one of the URLs that ``parse`` has returned is spoken to over TLS; None where it is not."""
    parts = urlsplit(url)
    if parts.scheme != "amqps":
        return None
    options = dict(parse_qsl(parts.query))
    return Tls(
        cafile=options.get("cafile"),
        capath=options.get("capath"),
        cadata=b64decode(options["cadata"]) if "cadata" in options else None,
        certfile=options.get("certfile"),
        keyfile=options.get("keyfile"),
        verifies=options.get("no_verify_ssl", "0") == "0",
    )


def _mistakes(parts: SplitResult) -> list[str]:
    """What is wrong behind the ``?``. A name that is none is not repeated: it may be part of a mistyped password."""
    given = parse_qsl(parts.query, keep_blank_values=True)
    found = [
        f"must have {_OPTIONS[name][1]} as its option {name}"
        for name, value in given
        if name in _OPTIONS and not _OPTIONS[name][0](value)
    ]
    if any(name not in _OPTIONS for name, _ in given):
        found.append(f"must have no options behind a '?' but {', '.join(_OPTIONS)}")
    of_tls = sorted(_OF_TLS.intersection(name for name, _ in given))
    if of_tls and parts.scheme != "amqps":
        found.append(f"must begin with amqps://, since without TLS there is no use for {', '.join(of_tls)}")
    return found


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
