"""TLS to Redis and RabbitMQ, on real listeners: what works, and what is said of what does not."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import Topology
from gateway.redis.store import RedisStore
from pipeline.facts import Client
from pipeline.ports import Begun, BrokerRefused, StoreUnavailable
from tests.contract.stores import claim_on
from tests.support.certificates import LONG_AGO, Authority, Pair, replace
from tests.support.gateways import Gateway
from tests.support.servers import RabbitServer, RedisServer, installed
from tests.support.tls import TlsRabbit, TlsRedis, trusting
from tests.support.waiting import until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates lie."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Whom everybody trusts."""
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    """Whom nobody trusts."""
    return Authority(folder, "stranger")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    """The gateway's own certificate."""
    return authority.issue("gateway", "gateway.test")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    """What both servers show. Tests that replace it put it back."""
    return authority.issue("server")


@pytest.fixture(scope="module")
def store_server(own: Pair, authority: Authority) -> Iterator[TlsRedis]:
    """Wants a client certificate."""
    with installed(lambda: TlsRedis(own, authority.file)) as server:
        yield server


@pytest.fixture(scope="module")
def broker_server(own: Pair, authority: Authority) -> Iterator[TlsRabbit]:
    """Wants a client certificate."""
    with installed(lambda: TlsRabbit(own, authority.file)) as server:
        yield server


def of_redis(url: str) -> str | None:
    """What is said of Redis at this URL; None when it serves."""

    async def ask() -> str | None:
        store = RedisStore(url, call_seconds=5)
        await store.start()
        try:
            await store.ping()
            assert await store.begin(claim_on(Client("TLS"), quote(url))) == Begun()
        except StoreUnavailable as error:
            return str(error)
        finally:
            await store.close()
        return None

    return asyncio.run(ask())


def of_rabbitmq(url: str) -> str | None:
    """What is said of RabbitMQ at this URL; None when it serves."""

    async def ask() -> str | None:
        outbox = RabbitOutbox(url, Topology(queue="sms.tls"), "test")
        await outbox.start()
        said = "no connection has been made yet"
        try:
            async with asyncio.timeout(30):
                while "no connection has been made yet" in said:
                    try:
                        await outbox.ping()
                    except BrokerRefused as error:
                        said = str(error)
                    else:
                        return None
                    await asyncio.sleep(0.02)
        finally:
            await outbox.close()
        return said

    return asyncio.run(ask())


WITHOUT_ONE = "wants a client certificate"


class Mistakes(ABC):
    """What is told of each mistake, by the servers of a kind."""

    @staticmethod
    @abstractmethod
    def say(url: str) -> str | None:
        """What is said of a server at this URL; None when it serves."""

    def check(self, url: str, *words: str) -> None:
        """The reason has these words, and no password."""
        said = self.say(url)
        assert said is not None
        assert any(word in said for word in words), said
        assert "guest:guest" not in said


class OnRedis(Mistakes):
    @staticmethod
    def say(url: str) -> str | None:
        return of_redis(url)

    def __init__(self, server: TlsRedis, plain: RedisServer) -> None:
        self._server = server
        self.url = server.url
        self.without_tls = server.url.replace("rediss:", "redis:")
        self.plain_port = f"rediss://localhost:{plain.port}"
        self.plain_words = ["whether it speaks TLS on this port", "does not speak TLS"]


class OnRabbitMQ(Mistakes):
    @staticmethod
    def say(url: str) -> str | None:
        return of_rabbitmq(url)

    def __init__(self, server: TlsRabbit, plain: RabbitServer) -> None:
        self.url = server.tls_url
        self.without_tls = server.tls_url.replace("amqps:", "amqp:")
        self.plain_port = f"amqps://guest:guest@localhost:{plain.port}/"
        self.plain_words = ["does not speak TLS"]


@pytest.fixture(params=["redis", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> OnRedis | OnRabbitMQ:
    """Both of them are asked the same."""
    if request.param == "redis":
        return OnRedis(request.getfixturevalue("store_server"), request.getfixturevalue("redis_server"))
    server = request.getfixturevalue("broker_server")
    return OnRabbitMQ(server, server)


@pytest.fixture
def showing(
    own: Pair, kind: OnRedis | OnRabbitMQ, request: pytest.FixtureRequest
) -> Iterator[Callable[[Pair], None]]:
    """Has the server show another certificate, until the end of the test."""
    before = own.cert.read_bytes(), own.key.read_bytes()
    is_redis = isinstance(kind, OnRedis)
    server = request.getfixturevalue("store_server" if is_redis else "broker_server")

    def put(cert: bytes, key: bytes) -> None:
        replace(own.key, key)
        replace(own.cert, cert)
        server.restart() if is_redis else server.forget_certificates()

    yield lambda pair: put(pair.cert.read_bytes(), pair.key.read_bytes())
    put(*before)


class TestWhatIsSaid:
    def test_it_works(self, kind: OnRedis | OnRabbitMQ, authority: Authority, client: Pair) -> None:
        """With the authority and a certificate of the gateway's own."""
        assert kind.say(trusting(kind.url, authority, client)) is None

    def test_without_a_client_certificate(self, kind: OnRedis | OnRabbitMQ, authority: Authority) -> None:
        kind.check(trusting(kind.url, authority), WITHOUT_ONE)

    def test_with_a_client_certificate_of_an_unknown_authority(
        self, kind: OnRedis | OnRabbitMQ, authority: Authority, stranger: Authority
    ) -> None:
        theirs = stranger.issue("gateway", "gateway.test")
        kind.check(trusting(kind.url, authority, theirs), "the certificate in certfile")

    def test_with_a_client_certificate_that_has_expired(
        self, kind: OnRedis | OnRabbitMQ, authority: Authority
    ) -> None:
        old = authority.issue("old-gateway", "gateway.test", ends=LONG_AGO)
        kind.check(trusting(kind.url, authority, old), "the certificate in certfile")

    def test_an_unknown_authority(
        self, kind: OnRedis | OnRabbitMQ, stranger: Authority, client: Pair
    ) -> None:
        """Neither the system's nor another one that is named is enough."""
        kind.check(trusting(kind.url, stranger, client), f"is not in {stranger.file}")
        kind.check(f"{kind.url}?{client.query}", "is not known to this system")

    def test_a_certificate_for_another_name(
        self,
        kind: OnRedis | OnRabbitMQ,
        authority: Authority,
        client: Pair,
        showing: Callable[[Pair], None],
    ) -> None:
        showing(authority.issue("elsewhere", "elsewhere.test"))
        kind.check(trusting(kind.url, authority, client), "for another name", "not valid for 'localhost'")

    def test_a_certificate_that_has_expired(
        self,
        kind: OnRedis | OnRabbitMQ,
        authority: Authority,
        client: Pair,
        showing: Callable[[Pair], None],
    ) -> None:
        showing(authority.issue("old", ends=LONG_AGO))
        kind.check(trusting(kind.url, authority, client), "has expired")

    def test_plain_text_to_a_port_that_wants_tls(self, kind: OnRedis | OnRabbitMQ) -> None:
        kind.check(kind.without_tls, "speaks nothing but TLS on this port")

    def test_tls_to_a_port_that_wants_plain_text(
        self, kind: OnRedis | OnRabbitMQ, authority: Authority
    ) -> None:
        kind.check(trusting(kind.plain_port, authority), *kind.plain_words)

    def test_files_that_cannot_be_used_any_more(
        self, kind: OnRedis | OnRabbitMQ, authority: Authority, client: Pair, tmp_path: Path
    ) -> None:
        """They were there at the start: what is wrong is said at the next connection."""
        gone = tmp_path / "gone.pem"
        kind.check(f"{kind.url}?cafile={gone}", f"cafile {gone}: No such file")
        mixed = f"certfile={client.cert}&keyfile={authority.issue('mixed').key}"
        kind.check(f"{kind.url}?cafile={authority.file}&{mixed}", "is not the key of the certificate")

    def test_an_old_version_of_tls(self, own: Pair, authority: Authority) -> None:
        """Not spoken, whatever the server offers."""
        with installed(lambda: TlsRedis(own, tls_protocols="TLSv1.1")) as server:
            said = of_redis(trusting(server.url, authority))
        assert said is not None
        assert "version of TLS" in said


def test_readiness_and_log_say_it(
    store_server: TlsRedis,
    broker_server: TlsRabbit,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
) -> None:
    """In the words for operators, both servers at once, and without a secret."""
    environ = {
        "REDIS_URL": trusting(store_server.url.replace("//", "//:s3cr3t@"), stranger),
        "RABBITMQ_URL": trusting(broker_server.tls_url, authority),
    }
    gateway = Gateway(tmp_path, environ).start(ready=False)
    try:
        report = until(lambda: _both_down(gateway), "both reasons")
        assert f"is not in {stranger.file}" in report["store"]["last_error"]
        assert WITHOUT_ONE in report["broker"]["last_error"]
        log = gateway.log_text()
        assert f"is not in {stranger.file}" in log
        assert WITHOUT_ONE in log
        assert "s3cr3t" not in log + json.dumps(report)
        assert "guest:guest" not in log + json.dumps(report)
    finally:
        gateway.__exit__()


def _both_down(gateway: Gateway) -> dict[str, dict[str, str]] | None:
    report: dict[str, dict[str, str]] = gateway.wait("/readyz", 503).json()["dependencies"]
    errors = [report[name]["last_error"] or "" for name in ("store", "broker")]
    return report if all("certificate" in error for error in errors) else None
