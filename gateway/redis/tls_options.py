"""The TLS settings in the URL of a Redis: by redis-py's names, and by those that RabbitMQ's URL has for the same."""

from __future__ import annotations

import binascii
import ssl
from base64 import b64decode
from collections.abc import MutableMapping
from typing import Any

from gateway.tls.settings import OLDEST, Tls

_PATHS = {
    "cafile": "ssl_ca_certs",
    "capath": "ssl_ca_path",
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
}

NAMES = ("cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl")
"""The names that RabbitMQ's URL has as well; each means the same there."""


def take(options: MutableMapping[str, Any]) -> Tls:
    """Take the TLS settings out of the options of a URL, as redis-py reads them.

    Raises ``ValueError`` and ``TypeError``, which quote nothing, where one makes no sense.
    """
    found = {name: _one(options, name, other) for name, other in _PATHS.items()}
    if any(value == "" for value in found.values()):
        raise ValueError("a path is empty")
    der, pem = options.pop("cadata", None), options.pop("ssl_ca_data", None)
    try:
        cadata = b64decode(der, validate=True) if der is not None else pem
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    minimum = ssl.TLSVersion(options.pop("ssl_min_version", OLDEST))
    if minimum < OLDEST:
        raise ValueError("too old a version")
    return Tls(
        **found,
        cadata=cadata,
        password=options.pop("ssl_password", None),
        verifies=_verifies(options),
        verifies_name=options.pop("ssl_check_hostname", None) is not False,
        minimum=minimum,
        ciphers=options.pop("ssl_ciphers", None),
        with_flags=options.pop("ssl_include_verify_flags", ()),
        without_flags=options.pop("ssl_exclude_verify_flags", ()),
    )


def _one(options: MutableMapping[str, Any], name: str, other: str) -> str | None:
    if name in options and other in options:
        raise ValueError("one setting under two names")
    value: str | None = options.pop(name, options.pop(other, None))
    return value


def _verifies(options: MutableMapping[str, Any]) -> bool:
    asked, off = options.pop("ssl_cert_reqs", "required"), options.pop("no_verify_ssl", "0")
    # For a client, OpenSSL's "optional" is "required".
    if asked not in {"none", "optional", "required"} or off not in {"0", "1"}:
        raise ValueError("neither on nor off")
    return bool(asked != "none" and off == "0")
