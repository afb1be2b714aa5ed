"""Every environment variable: its name, default, meaning, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.rabbitmq import urls as rabbitmq_urls
from gateway.redis import urls as redis_urls

EMBEDDED = "embedded:"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable.

    ``read`` turns its text into a value or raises ``ValueError``, which says what to write instead and never repeats
    the text: it may be a secret. ``default`` is written as one would in the environment.
    """

    name: str
    meaning: str
    default: str | None = None
    read: Callable[[str], Any] = str


def _whole(minimum: int, maximum: int, unit: str = "") -> Callable[[str], int]:
    def read(text: str) -> int:
        wanted = f"must be a whole number from {minimum} to {maximum}{unit and ', in ' + unit}"
        if not (text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum):
            raise ValueError(wanted)
        return int(text)

    return read


def _yes_or_no(text: str) -> bool:
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _log_level(text: str) -> str:
    return _one_of("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")(text.upper())


def _amqp_name(text: str) -> str:
    # AMQP short strings hold 255 bytes; names that we derive add ".probe".
    if len(text.encode()) > 249 or not text.isprintable():
        raise ValueError("must be a name of at most 249 bytes without control characters")
    return text


def _prefix(text: str) -> str:
    if (
        not text.isascii()
        or not text.isprintable()
        or any(character in "{} " for character in text)
        or len(text) > 64
    ):
        raise ValueError(
            "must be at most 64 visible ASCII characters without braces, which mark Redis hash slots"
        )
    return text


def _service_name(text: str) -> str:
    # It is AMQP's app_id too, a short string of 255 bytes.
    if not text.isprintable() or len(text) > 64 or len(text.encode()) > 255:
        raise ValueError("must be at most 64 printable characters, and at most 255 bytes")
    return text


def _host(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text or "/" in text:
        raise ValueError("must be an IP address or a host name to listen on, such as 127.0.0.1 or 0.0.0.0")
    return text


def _path(text: str) -> str:
    if "\0" in text or "://" in text or text.startswith(EMBEDDED):
        raise ValueError("must be the path of a file and nothing else, as in var/spool.db")
    return text


def _url(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A URL that its adapter can read, or a file."""

    def read(text: str) -> str:
        path = text.removeprefix(EMBEDDED)
        if path == text:
            try:
                parse(text)
            except ValueError as error:
                raise ValueError(f"{error}; or {EMBEDDED}PATH for one SQLite file on this machine") from None
        elif not path or "\0" in path:
            raise ValueError(f"must name the file, as in {EMBEDDED}var/gateway.db")
        return text

    return read


REDIS_EXAMPLE = "redis://127.0.0.1:6379/0"
RABBITMQ_EXAMPLE = "amqp://user:password@127.0.0.1:5672/"

SERVICE_NAME = Variable("SERVICE_NAME", "The name in logs and heartbeats.", "server-a", _service_name)
HOST = Variable("SERVER_A_HOST", "The address to listen on.", "0.0.0.0", _host)  # noqa: S104 - the contract's default
PORT = Variable("SERVER_A_PORT", "The port to listen on.", "8000", _whole(0, 65535))
REDIS_URL = Variable(
    "REDIS_URL",
    "The store of claims and quotas: `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`, "
    f"`redis+cluster://`, `rediss+cluster://`, or `{EMBEDDED}PATH`.",
    read=_url(redis_urls.parse),
)
RABBITMQ_URL = Variable(
    "RABBITMQ_URL",
    f"The outbox: `amqp://`, `amqps://`, several of one cluster separated by commas, or `{EMBEDDED}PATH`.",
    read=_url(rabbitmq_urls.parse),
)
EXCHANGE = Variable(
    "RABBITMQ_EXCHANGE", "The durable direct exchange of messages.", "sms.outbound", _amqp_name
)
QUEUE = Variable(
    "RABBITMQ_QUEUE", "The durable queue of messages, bound by its own name.", "sms.outbound", _amqp_name
)
QUEUE_TYPE = Variable("RABBITMQ_QUEUE_TYPE", "`quorum` or `classic`.", "quorum", _one_of("quorum", "classic"))
HEARTBEAT_EXCHANGE = Variable(
    "RABBITMQ_HEARTBEAT_EXCHANGE", "The durable fanout exchange of heartbeats.", "sms.heartbeat", _amqp_name
)
HEARTBEAT_QUEUE = Variable(
    "RABBITMQ_HEARTBEAT_QUEUE",
    "The queue of heartbeats for Server B, bounded in length.",
    "sms.heartbeat",
    _amqp_name,
)
SPOOL = Variable(
    "RABBITMQ_SPOOL",
    "A file on this machine in which messages wait while RabbitMQ cannot take them.",
    read=_path,
)
SPOOL_MAX_MESSAGES = Variable(
    "SPOOL_MAX_MESSAGES",
    "How many messages may wait in that file; one more is refused with 503.",
    "100000",
    _whole(1, 100_000_000),
)
GATE_ENABLED = Variable(
    "PROVIDER_GATE_ENABLED", "Whether the state of providers is looked at.", "true", _yes_or_no
)
IDEMPOTENCY_TTL = Variable(
    "IDEMPOTENCY_TTL_SECONDS",
    "How long the answer under an Idempotency-Key is kept.",
    "86400",
    # A record that ends before its own lease could be claimed twice.
    _whole(60, 31_536_000, "seconds"),
)
QUOTA_PREFIX = Variable("QUOTA_PREFIX", "The first part of quota keys in Redis.", "quota", _prefix)
HEARTBEAT_INTERVAL = Variable(
    "HEARTBEAT_INTERVAL_SECONDS", "The time between two heartbeats.", "60", _whole(1, 86_400, "seconds")
)
MAX_IN_FLIGHT = Variable(
    "MAX_IN_FLIGHT",
    "How many sends one process serves at once; one more is refused with 503.",
    "512",
    _whole(1, 1_000_000),
)
LOG_LEVEL = Variable("LOG_LEVEL", "The least level that is logged.", "INFO", _log_level)
CLIENT_CONFIG = Variable(
    "CLIENT_CONFIG", 'JSON: API key, or `sha256:<hex of it>`, to `{"name", "is_active", "daily_quota"}`.'
)
PROVIDERS_CONFIG = Variable(
    "PROVIDERS_CONFIG", 'JSON: provider to `{"is_active", "is_operational", "aliases", "note"}`.'
)
PIPELINE = Variable("PIPELINE", "The stages in their order, separated by commas.")
GATEWAY_CONFIG = Variable(
    "GATEWAY_CONFIG", "A TOML file that may hold `pipeline`, `[stage.NAME]`, `[clients]` and `[providers]`."
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Variable))
"""Every variable, in the order of the documentation."""


def clashes(values: Mapping[str, Any]) -> list[str]:
    """Names that are one thing on the broker and are to be two; ``values`` by the fields of ``Settings``."""
    found = []
    dead = f"{values['queue']}.dead"
    if values["heartbeat_exchange"] in {values["exchange"], dead}:
        found.append(
            f"{HEARTBEAT_EXCHANGE.name} must be another name than {EXCHANGE.name} "
            f"and than {QUEUE.name}'s dead-letter exchange"
        )
    if values["heartbeat_queue"] in {values["queue"], dead}:
        found.append(
            f"{HEARTBEAT_QUEUE.name} must be another name than {QUEUE.name} and than its dead-letter queue"
        )
    return found
