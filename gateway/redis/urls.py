"""The URLs that Redis may have: of one server, of a primary that Sentinels watch over, of a Cluster."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from gateway.redis import tls_options
from gateway.redis.address import Address
from gateway.redis.cluster import ClusterAddress
from gateway.redis.sentinel import SentinelAddress
from gateway.tls.settings import Tls

_LOGIN = "[USER:PASSWORD@]"
_HOSTS = "HOST[:PORT][,HOST[:PORT]...]"
_SENTINEL_PORT = 26379
# What Sentinel itself takes for a name.
_NAME = re.compile(r"[A-Za-z0-9._-]+")

FORMS = {
    "": f"redis://{_LOGIN}HOST[:PORT][/DATABASE] (rediss:// for TLS) or unix://{_LOGIN}/PATH",
    "sentinel": f"redis+sentinel://{_LOGIN}{_HOSTS}/NAME-OF-THE-PRIMARY[/DATABASE] (rediss+sentinel:// for TLS)",
    "cluster": f"redis+cluster://{_LOGIN}{_HOSTS} (rediss+cluster:// for TLS)",
}
"""What to write, by what stands after the ``+`` of the scheme."""


def parse(url: str) -> Address | SentinelAddress | ClusterAddress:
    """What ``url`` names; opens nothing.

    Raises ``ValueError``: what it must be instead. That quotes nothing of it, since a mistyped password ends up in any
    part.
    """
    scheme, _, rest = url.partition("://")
    scheme, _, kind = scheme.partition("+")
    try:
        match kind:
            case "sentinel":
                return _sentinel(scheme, rest)
            case "cluster":
                return _cluster(scheme, rest)
            case _:
                return Address.of(url)
    except ValueError:
        known = kind in FORMS and scheme in {"redis", "rediss", "unix"}
        forms = FORMS[kind] if known else ", ".join(FORMS.values())
    raise ValueError(
        f"must be {forms}, with special characters in the password percent-encoded, and with nothing after a '?' "
        f"but options of redis-py and, for TLS, {', '.join(tls_options.NAMES)}"
    )


def tls(url: str) -> Tls | None:
    """How all servers of ``url`` are spoken to over TLS, the Sentinels included; None where they are not.

    Raises as ``parse``.
    """
    match parse(url):
        case Address() as server:
            return server.tls
        case SentinelAddress(server=server):
            return server.tls
        case ClusterAddress(seeds=seeds):
            return seeds[0].tls


def _sentinel(scheme: str, rest: str) -> SentinelAddress:
    login, hosts, path, query = _parts(rest)
    name, _, database = path.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    login_there = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if not _NAME.fullmatch(name):
        raise ValueError("not the name of a primary")
    # Of one of the Sentinels' hosts, for want of another: it is replaced as soon as they say where the primary is.
    server = Address.of(f"{scheme}://{login}{hosts[0]}/{database}?{urlencode(options)}")
    places = [Address.of(f"{scheme}://{host}", _SENTINEL_PORT) for host in hosts]
    sentinels = [server.at(place.host, place.port, db=0, **login_there) for place in places]
    return SentinelAddress(name, sentinels, server)


def _cluster(scheme: str, rest: str) -> ClusterAddress:
    login, hosts, path, query = _parts(rest)
    seeds = [Address.of(f"{scheme}://{login}{host}/{path}?{query}") for host in hosts]
    if any(seed.options.get("db") for seed in seeds):
        raise ValueError("a Cluster has one database")
    # All with the TLS settings of the first, and so with one context.
    return ClusterAddress([seeds[0].at(seed.host, seed.port) for seed in seeds])


def _parts(rest: str) -> tuple[str, list[str], str, str]:
    """The login with its ``@``, the hosts, the path and the query."""
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    login, at, hosts = authority.rpartition("@")
    return login + at, hosts.split(","), path, query
