"""Redis and RabbitMQ that speak TLS, with the certificates that they are given."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tests.support.certificates import NAME, Authority, Pair
from tests.support.servers import HOST, RabbitServer, RedisServer, accepts, free_port


class TlsRedis(RedisServer):
    """A Redis that speaks TLS, and plain text on ``plain_port``.

    With ``clients`` it serves those alone over TLS whom an authority in this file has certified.
    """

    def __init__(self, own: Pair, clients: Path | None = None, **options: str) -> None:
        self.plain_port = free_port()
        self.files = {
            "tls-cert-file": str(own.cert),
            "tls-key-file": str(own.key),
            "tls-ca-cert-file": str(clients or own.cert),
        }
        super().__init__(port=str(self.plain_port), tls_auth_clients="yes" if clients else "no", **options)
        self._options |= {"tls-port": str(self.port), **self.files}

    @property
    def url(self) -> str:
        """Where clients connect; what they trust is to be added."""
        return f"rediss://{NAME}:{self.port}/0"

    def _answers(self) -> bool:
        return accepts(self.port)


class TlsRabbit(RabbitServer):
    """A RabbitMQ that speaks TLS on a port of its own, beside the other; with ``clients`` as ``TlsRedis``."""

    def __init__(self, own: Pair, clients: Path | None = None) -> None:
        self.tls_port = free_port()
        self._tls = {
            "certfile": own.cert,
            "keyfile": own.key,
            "cacertfile": clients or own.cert,
            "verify": "verify_peer" if clients else "verify_none",
            "fail_if_no_peer_cert": str(clients is not None).lower(),
        }
        super().__init__()

    @property
    def tls_url(self) -> str:
        """Where clients connect over TLS; what they trust is to be added."""
        return f"amqps://guest:guest@{NAME}:{self.tls_port}/"

    def forget_certificates(self) -> None:
        """Have it read its certificate anew at the next connection, as an operator does who has replaced it."""
        self.ctl("eval", "ssl:clear_pem_cache().")

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        with Path(environment["RABBITMQ_CONFIG_FILE"]).open("a", encoding="utf-8") as file:
            file.write(f"listeners.ssl.default = {HOST}:{self.tls_port}\n")
            file.writelines(f"ssl_options.{name} = {value}\n" for name, value in self._tls.items())
        return environment


def trusting(url: str, authority: Authority, own: Pair | None = None) -> str:
    """The URL of a server, with the authority that is trusted and the certificate that is shown."""
    return f"{url}?cafile={quote(str(authority.file))}" + (f"&{own.query}" if own else "")
