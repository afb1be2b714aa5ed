"""Certificates are replaced under load, the authority's included, and nobody restarts the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.cluster.load import Load, used
from tests.support.certificates import Authority, Pair, replace
from tests.support.gateways import Backend, Gateway
from tests.support.servers import installed
from tests.support.tls import TlsRabbit, TlsRedis
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(400)]


class Rotation:
    """Two servers and a gateway, all of whose certificates lie in files that are replaced."""

    def __init__(self, folder: Path) -> None:
        self.authorities = [Authority(folder, "first"), Authority(folder, "second")]
        self.trusted = folder / "trusted.pem"
        self.server, self.client = Pair(folder, "server"), Pair(folder, "gateway")
        self.trust(self.authorities[0])
        self.certify(self.authorities[0])

    def trust(self, *authorities: Authority) -> None:
        """Everybody trusts these, once they have read it."""
        replace(self.trusted, b"".join(each.file.read_bytes() for each in authorities))

    def certify(self, authority: Authority) -> None:
        """Both servers and the gateway get certificates of this one."""
        for pair, issued in (
            (self.server, authority.issue("s")),
            (self.client, authority.issue("c", "gateway")),
        ):
            # One after the other, as every tool does it: in between they do not belong together.
            replace(pair.key, issued.key.read_bytes())
            replace(pair.cert, issued.cert.read_bytes())

    @property
    def query(self) -> str:
        """What a URL says of it."""
        return f"?cafile={quote(str(self.trusted))}&{self.client.query}"


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    """Certified by the first authority."""
    return Rotation(tmp_path)


@pytest.fixture
def store(rotation: Rotation) -> Iterator[TlsRedis]:
    """Wants a certificate of an authority in the file."""
    with installed(lambda: TlsRedis(rotation.server, rotation.trusted)) as server:
        yield server


@pytest.fixture
def broker(rotation: Rotation) -> Iterator[TlsRabbit]:
    """As ``store``."""
    with installed(lambda: TlsRabbit(rotation.server, rotation.trusted)) as server:
        yield server


def drop_clients(administrator: redis.Redis) -> None:
    """Close every connection to Redis but the administrator's."""
    administrator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]


def read_anew(store: TlsRedis, broker: TlsRabbit, administrator: redis.Redis) -> None:
    """Have both servers read their files, and end all connections, so that every one is made with the new files."""
    for name, path in store.files.items():
        administrator.execute_command("CONFIG", "SET", name, path)  # type: ignore[no-untyped-call]
    broker.forget_certificates()
    drop_clients(administrator)
    broker.ctl("close_all_connections", "certificates were replaced")


def test_everything_is_replaced_under_load(
    rotation: Rotation, store: TlsRedis, broker: TlsRabbit, tmp_path: Path
) -> None:
    """First all trust both authorities, then all have certificates of the new one, then the old one is trusted no more.

    Whoever is told to try again gets through, nothing is lost or doubled, and the count is exact.
    """
    first, second = rotation.authorities
    # The tests' own tools take the ports without TLS.
    backend = Backend("tls", f"redis://127.0.0.1:{store.plain_port}/0", broker.url)
    environ = {
        **backend.environ(),
        "REDIS_URL": store.url + rotation.query,
        "RABBITMQ_URL": broker.tls_url + rotation.query,
    }
    with (
        redis.Redis(port=store.plain_port) as administrator,
        Gateway(tmp_path, environ) as gateway,
        Load(gateway) as load,
    ):
        load.wait_for(50)
        for step in (
            lambda: rotation.trust(first, second),
            lambda: rotation.certify(second),
            lambda: rotation.trust(second),
        ):
            step()  # type: ignore[no-untyped-call]
            read_anew(store, broker, administrator)
            load.wait_for(50)
            gateway.wait("/readyz")
    load.check(backend.rabbitmq_url, backend.queue)
    assert used(backend, "acme") == len(load.messages)


def test_files_that_do_not_belong_together_are_told_of_until_they_do(
    rotation: Rotation, store: TlsRedis, broker: TlsRabbit, tmp_path: Path
) -> None:
    """The gateway goes on with the connections that it has; one that is made then fails, and says why."""
    backend = Backend("tls", f"redis://127.0.0.1:{store.plain_port}/0", broker.url)
    environ = {
        **backend.environ(),
        "REDIS_URL": store.url + rotation.query,
        "RABBITMQ_URL": broker.tls_url + rotation.query,
    }
    with redis.Redis(port=store.plain_port) as administrator, Gateway(tmp_path, environ) as gateway:
        good = rotation.client.key.read_bytes()
        replace(rotation.client.key, rotation.authorities[0].issue("other").key.read_bytes())
        assert gateway.send().status_code == 202
        drop_clients(administrator)

        def is_told() -> bool:
            report = gateway.wait("/readyz", 503).json()["dependencies"]["store"]
            return "is not the key of the certificate in certfile" in report["last_error"]

        until(is_told, "the reason")
        replace(rotation.client.key, good)
        gateway.wait("/readyz")
        assert gateway.send_until_served().status_code == 202
