"""Where one Redis server is, and how to open a connection to it: redis-py knows URLs, TLS and login."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from gateway.redis import tls_options
from gateway.tls.diagnosis import diagnosis, ended
from gateway.tls.settings import Tls

# What redis-py says of a connection that the other side has closed in order.
_CLOSED = "Connection closed by server."


class Connection(Protocol):
    """What is used of a redis-py connection. Every method may raise ``RedisError``."""

    # While it is connected.
    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    async def connect(self) -> None:
        """Connect, log in and choose the database."""

    async def send_packed_command(self, command: bytes, check_health: bool = True) -> None:
        """Send these bytes, and wait while too much is buffered."""

    async def read_response(self) -> Any:
        """The next reply; a ``ResponseError`` that is one is raised."""

    async def disconnect(self, nowait: bool = False) -> None:
        """Close it; harmless when it is closed."""


class TlsConnection(TcpConnection):
    """Opened with the certificates as they are at that moment; redis-py's own would trust the system's besides."""

    def __init__(self, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and how redis-py opens a connection to it: the kind of connection and its options."""

    kind: Callable[..., Connection]
    options: Mapping[str, Any] = field(repr=False)

    @property
    def tls(self) -> Tls | None:
        """The settings of TLS, which all servers of one URL share; None where it is not spoken."""
        tls: Tls | None = self.options.get("tls")
        return tls

    @classmethod
    def of(cls, url: str, default_port: int = 6379) -> Address:
        """The server that ``url`` names: ``redis://``, ``rediss://`` or ``unix://``.

        Its query has redis-py's options and those of ``tls_options``.

        ``gateway.redis.urls`` says what to write instead of a URL for which this raises ``ValueError``.
        """
        if not _is_one(url):
            raise ValueError("not the URL of a Redis server")
        try:
            options: dict[str, Any] = {"port": default_port, **parse_url(url)}
            # What would stop a connection that waits for replies for ever, repeat a command behind our back, or
            # change the form of replies is not for the URL to say.
            options |= {
                "socket_timeout": None,
                "retry": Retry(NoBackoff(), 0),
                "health_check_interval": 0,
                "decode_responses": False,
                "protocol": 2,
            }
            for of_the_pool in ("max_connections", "timeout"):
                options.pop(of_the_pool, None)
            kind = options.pop("connection_class", TcpConnection)
            if kind is SSLConnection:
                kind, options["tls"] = TlsConnection, tls_options.take(options)
            if "path" in options:
                del options["port"]
            address = cls(kind, options)
            address.connection()
        except (ValueError, TypeError, RedisError):
            # From none: what they say may quote the password.
            raise ValueError("not the URL of a Redis server") from None
        return address

    def __str__(self) -> str:
        """``HOST:PORT``, or the path of the socket."""
        return str(self.options["path"]) if "path" in self.options else f"{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """Its name or IP address; empty for a socket of this machine."""
        return str(self.options.get("host", ""))

    @property
    def port(self) -> int:
        """Its port; 0 for a socket of this machine."""
        return int(self.options.get("port", 0))

    def at(self, host: str, port: int, **options: Any) -> Address:
        """Another server, which is opened in the same way but for ``options`` of redis-py."""
        return replace(self, options={**self.options, "host": host, "port": port, **options})

    async def find(self) -> Address:
        """Where the server is now: here."""
        return self

    def connection(self) -> Connection:
        """A new connection, not connected yet."""
        return self.kind(**self.options)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What is done in it is the first on a connection: where TLS is the reason that it fails, say what to do."""
        try:
            yield
        except RedisError as error:
            told = diagnosis(error, self.tls) or (ended(self.tls) if str(error) == _CLOSED else None)
            if told is None:
                raise
            raise Disconnected(told) from error

    async def ask(self, *commands: tuple[str, ...]) -> list[Any]:
        """The replies to some commands, on a connection of their own. Raises ``RedisError``."""
        connection = self.connection()
        try:
            packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # any length
            with self.explained():
                await connection.connect()
                await connection.send_packed_command(packed, check_health=False)
                return [await connection.read_response() for _ in commands]
        finally:
            await connection.disconnect(nowait=True)

    def without_secret(self, text: str) -> str:
        """``text`` without the password: a server that does not know AUTH quotes it in its complaint."""
        secret = str(self.options.get("password") or "")
        return text.replace(secret, "…") if secret else text


def _is_one(url: str) -> bool:
    """Whether it is what it seems to be: redis-py passes over parts that it does not understand."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return bool(parts.path) and not parts.hostname and not parts.fragment
        has_place = re.fullmatch(r"[^\s,]+", parts.hostname or "") is not None and parts.port != 0
    except ValueError:
        return False
    return has_place and not parts.fragment and re.fullmatch(r"/?[0-9]*", parts.path) is not None
