"""The URLs of Redis: what each names, and what is said of those that name nothing."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import UnixDomainSocketConnection

from gateway.redis import urls
from gateway.redis.address import Address, TlsConnection
from gateway.redis.cluster import ClusterAddress
from gateway.redis.sentinel import SentinelAddress
from gateway.tls.settings import Tls


def one(url: str) -> Address:
    found = urls.parse(url)
    assert isinstance(found, Address)
    return found


def sentinel(url: str) -> SentinelAddress:
    found = urls.parse(url)
    assert isinstance(found, SentinelAddress)
    return found


def cluster(url: str) -> ClusterAddress:
    found = urls.parse(url)
    assert isinstance(found, ClusterAddress)
    return found


def login(address: Address) -> tuple[Any, Any]:
    return address.options.get("username"), address.options.get("password")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://h", "h:6379"),
        ("redis://h:1/", "h:1"),
        ("redis://[::1]:2/3", "::1:2"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("unix://u:p@/run/redis.sock?db=2", "/run/redis.sock"),
    ],
)
def test_one_server(url: str, place: str) -> None:
    """Host and port, or a socket of this machine."""
    assert str(one(url)) == place


def test_login_database_and_options() -> None:
    """They are handed to redis-py, percent-decoded."""
    found = one("rediss://us%40er:p%2Fw@h:1/7?client_name=gw&ssl_cert_reqs=none")
    assert found.kind is TlsConnection
    assert found.tls is not None
    assert not found.tls.verifies
    assert login(found) == ("us@er", "p/w")
    assert (found.options["db"], found.options["client_name"]) == (7, "gw")
    assert one("unix:///x").kind is UnixDomainSocketConnection


def test_what_a_shared_connection_cannot_do_with_is_not_for_the_url_to_say() -> None:
    """A time-out would end a connection that waits for replies for ever; retries would repeat commands."""
    found = one("redis://h?socket_timeout=1&health_check_interval=5&protocol=3&max_connections=1&timeout=2")
    assert found.options["socket_timeout"] is None
    assert (found.options["health_check_interval"], found.options["protocol"]) == (0, 2)


def test_sentinels() -> None:
    """The login is the primary's, wherever it is; Sentinels have another one, or none, and no databases."""
    found = sentinel("redis+sentinel://u:p@a:1,[::1]:2,c/my.primary-1/5?client_name=gw")
    assert str(found) == "my.primary-1 of a:1,::1:2,c:26379"
    assert [login(each) for each in found.sentinels] == [(None, None)] * 3
    assert [each.options["db"] for each in found.sentinels] == [0] * 3
    assert login(found.server) == ("u", "p")
    assert (found.server.options["db"], found.server.options["client_name"]) == (5, "gw")
    moved = found.server.at("d", 3)
    assert (str(moved), login(moved)) == ("d:3", ("u", "p"))


def test_the_login_of_the_sentinels() -> None:
    """It is given as options."""
    found = sentinel("redis+sentinel://:p@a:1/x?sentinel_username=su&sentinel_password=s%2Fp")
    assert login(found.sentinels[0]) == ("su", "s/p")
    assert login(found.server) == (None, "p")
    assert found.without_secret("p, s/p") == "…, …"


def test_tls_of_sentinels_and_cluster() -> None:
    """It holds for every connection, with one context for all."""
    found = sentinel("rediss+sentinel://a:1,b:2/x?cafile=/ca.pem")
    every = [*found.sentinels, found.server, found.server.at("c", 3)]
    nodes = cluster("rediss+cluster://a,b?cafile=/ca.pem")
    for each in (every, [*nodes.seeds, nodes.node(("c", 1))]):
        assert {one.kind for one in each} == {TlsConnection}
        assert {id(one.tls) for one in each} == {id(each[0].tls)}
        assert each[0].tls is not None
        assert each[0].tls.cafile == "/ca.pem"
    for url in ("rediss://h", "rediss+sentinel://h/x", "rediss+cluster://h"):
        assert urls.tls(f"{url}?certfile=/own.pem") == Tls(certfile="/own.pem")
        assert urls.tls(url.replace("rediss", "redis")) is None


def test_cluster() -> None:
    """Any of its nodes tells about the others; each is opened in the same way."""
    found = cluster("redis+cluster://u:p@a:1,b,[::1]:3/0?client_name=gw")
    assert str(found) == "cluster of a:1,b:6379,::1:3"
    node = found.node(("d", 4))
    assert (str(node), login(node), node.options["client_name"]) == ("d:4", ("u", "p"), "gw")


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("", "redis://"),
        ("s3cr3t", "redis://"),
        ("http://:s3cr3t@h", "redis+cluster://"),
        ("http+cluster://:s3cr3t@h", "redis+sentinel://"),
        ("unix+cluster://:s3cr3t@h", "redis+cluster://"),
        ("redis+s3cr3t://h", "redis+cluster://"),
        ("redis:h", "redis://"),
        ("redis://", "redis://"),
        ("redis://:s3cr3t@", "redis://"),
        ("redis://:s3cr3t@h:0", "redis://"),
        ("redis://:s3cr3t@h:99999", "redis://"),
        ("redis://:s3cr3t@h/abc", "redis://"),
        ("redis://:s3cr3t@h/1/2", "redis://"),
        ("redis://:s3cr3t@h/-1", "redis://"),
        ("redis://:s3#cr3t@h", "redis://"),
        ("redis://:s3/cr3t@h", "redis://"),
        ("redis://h?s3cr3t=1", "redis://"),
        ("redis://h?db=s3cr3t", "redis://"),
        ("redis://[::1", "redis://"),
        ("redis://a,b", "redis://"),
        ("rediss://h?ssl_cert_reqs=s3cr3t", "redis://"),
        ("redis://h?cafile=/s3cr3t", "rediss:// for TLS"),
        ("redis+cluster://h?cafile=/s3cr3t", "rediss+cluster:// for TLS"),
        ("unix://run/redis.sock", "unix://"),
        ("unix://", "unix://"),
        ("redis+sentinel://:s3cr3t@a:1", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1/", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1/na me", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1/name/abc", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://u:1/s3cr3t@a:1/name", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1,/name", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1,b:x/name", "NAME-OF-THE-PRIMARY"),
        ("redis+sentinel://:s3cr3t@a:1/name?s3cr3t=1", "NAME-OF-THE-PRIMARY"),
        ("redis+cluster://:s3cr3t@a:1,", "redis+cluster://"),
        ("redis+cluster://:s3cr3t@a:1,b:0", "redis+cluster://"),
        ("redis+cluster://:s3cr3t@a:1/1", "redis+cluster://"),
        ("redis+cluster://:s3cr3t@a:1?db=1", "redis+cluster://"),
        ("redis+cluster://:s3cr3t@a:1?s3cr3t=1", "redis+cluster://"),
        ("redis+cluster://:s3/cr3t@a:1", "redis+cluster://"),
    ],
)
def test_what_names_nothing_is_told_what_to_write_and_is_not_repeated(url: str, form: str) -> None:
    """A mistyped password ends up in any part: nothing of the URL is in the message, nor in what led to it."""
    with pytest.raises(ValueError, match=r"^must be ") as raised:
        urls.parse(url)
    assert form in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "s3" not in str(raised.value)
    assert "cr3t" not in str(raised.value)


def test_no_password_is_in_a_repr() -> None:
    """Whoever logs an address logs no secret."""
    for url in (
        "redis://:s3cr3t@h",
        "redis+sentinel://:s3cr3t@h/x?sentinel_password=s3cr3t",
        "redis+cluster://:s3cr3t@h",
    ):
        assert "s3cr3t" not in repr(urls.parse(url)) + str(urls.parse(url))
