"""From the text of a variable to its value. Each raises ``ValueError``, which says what to write instead.

None repeats the text: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.rabbitmq import urls as rabbitmq_urls
from gateway.redis import urls as redis_urls
from gateway.tls.settings import Tls

EMBEDDED = "embedded:"
"""With this begins what stands in the place of a URL and names one SQLite file on this machine."""


def whole(minimum: int, maximum: int, unit: str = "") -> Callable[[str], int]:
    """A parser of whole numbers in these bounds, both included."""

    def read(text: str) -> int:
        wanted = f"must be a whole number from {minimum} to {maximum}{unit and ', in ' + unit}"
        if not (text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum):
            raise ValueError(wanted)
        return int(text)

    return read


def yes_or_no(text: str) -> bool:
    """A switch, in any of the words that people write."""
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def one_of(*words: str) -> Callable[[str], str]:
    """A parser that takes these words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def log_level(text: str) -> str:
    """One of the log's levels, in capitals or not."""
    return one_of("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")(text.upper())


def amqp_name(text: str) -> str:
    """The name of an exchange or a queue."""
    # AMQP short strings hold 255 bytes; names that we derive add ".probe".
    if len(text.encode()) > 249 or not text.isprintable():
        raise ValueError("must be a name of at most 249 bytes without control characters")
    return text


def key_prefix(text: str) -> str:
    """The first part of keys in Redis."""
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


def service_name(text: str) -> str:
    """How a gateway calls itself."""
    # It is AMQP's app_id too, a short string of 255 bytes.
    if not text.isprintable() or len(text) > 64 or len(text.encode()) > 255:
        raise ValueError("must be at most 64 printable characters, and at most 255 bytes")
    return text


def host(text: str) -> str:
    """An address to listen on, or its name."""
    if not text.isascii() or not text.isprintable() or " " in text or "/" in text or not _has_labels(text):
        raise ValueError("must be an IP address or a host name to listen on, such as 127.0.0.1 or 0.0.0.0")
    return text


def _has_labels(name: str) -> bool:
    """Whether each part between dots has 1 to 63 characters, without which Python does not even look for the name."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def path(text: str) -> str:
    """The path of a file."""
    if "\0" in text or "://" in text or text.startswith(EMBEDDED):
        raise ValueError("must be the path of a file and nothing else, as in var/spool.db")
    return text


def redis_url(text: str) -> str:
    """Where claims and quotas are kept: a URL that the adapter of Redis can read, or a file."""
    return _url(text, redis_urls.parse)


def rabbitmq_url(text: str) -> str:
    """Where messages go: a URL that the adapter of RabbitMQ can read, or a file."""
    return _url(text, rabbitmq_urls.parse)


def redis_tls(url: str) -> list[Tls]:
    """The TLS settings in a URL that ``redis_url`` has taken; none where TLS is not spoken."""
    found = None if url.startswith(EMBEDDED) else redis_urls.tls(url)
    return [found] if found else []


def rabbitmq_tls(url: str) -> list[Tls]:
    """The TLS settings in a URL that ``rabbitmq_url`` has taken, of each node that has some."""
    nodes = [] if url.startswith(EMBEDDED) else rabbitmq_urls.parse(url)
    return [found for node in nodes if (found := rabbitmq_urls.tls(node))]


def _url(text: str, parse: Callable[[str], object]) -> str:
    file = text.removeprefix(EMBEDDED)
    if file == text:
        try:
            parse(text)
        except ValueError as error:
            raise ValueError(f"{error}; or {EMBEDDED}PATH for one SQLite file on this machine") from None
    elif not file or "\0" in file or "://" in file:
        raise ValueError(f"must name the file, as in {EMBEDDED}var/gateway.db")
    return text
