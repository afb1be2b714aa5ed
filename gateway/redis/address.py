"""Where the Redis server is, and how to open a connection to it: redis-py knows URLs, TLS and login."""

from __future__ import annotations

from typing import Any, Protocol

from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_HOW = (
    "the URL of Redis cannot be read: write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, "
    "or unix://PATH, percent-encode special characters in the password, and use options of redis-py only"
)


class Connection(Protocol):
    """What is used of a redis-py connection. Every method may raise ``RedisError``."""

    async def connect(self) -> None:
        """Connect, log in and choose the database."""

    async def send_packed_command(self, command: bytes, check_health: bool = True) -> None:
        """Send these bytes, and wait while too much is buffered."""

    async def read_response(self) -> Any:
        """The next reply; a ``ResponseError`` that is one is raised."""

    async def disconnect(self, nowait: bool = False) -> None:
        """Close it; harmless when it is closed."""


class Address:
    """The server that ``url`` names: ``redis://``, ``rediss://`` or ``unix://``, redis-py's options as query.

    Raises ``ValueError`` for another URL; the message tells what to write and quotes nothing of it, since a
    mistyped password ends up in any part.
    """

    def __init__(self, url: str) -> None:
        try:
            options: dict[str, Any] = {**parse_url(url)}
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
            self._kind: Any = options.pop("connection_class", TcpConnection)
            self._options = options
            self.connection()
        except (ValueError, TypeError, RedisError):
            raise ValueError(_HOW) from None
        self._secret = str(options.get("password") or "")

    def __str__(self) -> str:
        """``HOST:PORT``, or the path of the socket."""
        if "path" in self._options:
            return str(self._options["path"])
        return f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"

    def connection(self) -> Connection:
        """A new connection, not connected yet."""
        connection: Connection = self._kind(**self._options)
        return connection

    def without_secret(self, text: str) -> str:
        """``text`` without the password: a server that does not know AUTH quotes it in its complaint."""
        return text.replace(self._secret, "…") if self._secret else text
