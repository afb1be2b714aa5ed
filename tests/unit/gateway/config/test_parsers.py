"""From text to value, for each variable by the parser that its declaration names."""

from __future__ import annotations

import pytest

from gateway.config.settings import VARIABLES
from gateway.config.variables import Variable


def named(name: str) -> Variable:
    (found,) = (variable for variable in VARIABLES.values() if variable.name == name)
    return found


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SERVER_A_PORT", "0", 0),
        ("SERVER_A_PORT", "65535", 65535),
        ("SERVER_A_PORT", "0080", 80),
        ("PROVIDER_GATE_ENABLED", "TRUE", True),
        ("PROVIDER_GATE_ENABLED", "1", True),
        ("PROVIDER_GATE_ENABLED", "yes", True),
        ("PROVIDER_GATE_ENABLED", "On", True),
        ("PROVIDER_GATE_ENABLED", "False", False),
        ("PROVIDER_GATE_ENABLED", "0", False),
        ("PROVIDER_GATE_ENABLED", "no", False),
        ("PROVIDER_GATE_ENABLED", "off", False),
        ("LOG_LEVEL", "warning", "WARNING"),
        ("REDIS_URL", "redis://localhost", "redis://localhost"),
        ("REDIS_URL", "redis://:p%40ss@[::1]:6379/0", "redis://:p%40ss@[::1]:6379/0"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "redis+sentinel://:p@a:1,b/name/2", "redis+sentinel://:p@a:1,b/name/2"),
        ("REDIS_URL", "rediss+cluster://u:p@a:1,b", "rediss+cluster://u:p@a:1,b"),
        ("REDIS_URL", "embedded:/var/lib/x.db", "embedded:/var/lib/x.db"),
        ("RABBITMQ_URL", "amqp://u:p@h:5672/vhost", "amqp://u:p@h:5672/vhost"),
        ("RABBITMQ_URL", "amqps://u:p@h, amqps://[::1]:1/", "amqps://u:p@h, amqps://[::1]:1/"),
        ("SERVER_A_HOST", "gateway.example", "gateway.example"),
        ("RABBITMQ_QUEUE", "é" * 124, "é" * 124),
    ],
)
def test_what_is_written_is_read(name: str, text: str, value: object) -> None:
    """Each variable takes the forms that people write."""
    read = named(name).read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER_A_PORT", "-1"),
        ("SERVER_A_PORT", "+80"),
        ("SERVER_A_PORT", " 80"),
        ("SERVER_A_PORT", "8_0"),
        ("SERVER_A_PORT", "80.0"),
        ("SERVER_A_PORT", "\u0668\u0660"),
        ("SERVER_A_PORT", "\u00b2"),
        ("SERVER_A_PORT", "9" * 5000),
        ("IDEMPOTENCY_TTL_SECONDS", "59"),
        ("HEARTBEAT_INTERVAL_SECONDS", "0.5"),
        ("PROVIDER_GATE_ENABLED", "enabled"),
        ("RABBITMQ_QUEUE_TYPE", "Quorum"),
        ("LOG_LEVEL", "VERBOSE"),
        ("REDIS_URL", "redis:/localhost"),
        ("REDIS_URL", "amqp://localhost"),
        ("REDIS_URL", "redis://[::1"),
        ("REDIS_URL", "redis://localhost:0"),
        ("REDIS_URL", "redis://localhost/abc"),
        ("REDIS_URL", "redis://localhost?foo=1"),
        ("REDIS_URL", "redis+sentinel://localhost"),
        ("REDIS_URL", "redis+cluster://localhost/1"),
        ("REDIS_URL", "Embedded:x"),
        ("REDIS_URL", "embedded:\0"),
        ("RABBITMQ_URL", "rabbitmq://localhost"),
        ("RABBITMQ_URL", "amqp:///vhost"),
        ("RABBITMQ_URL", "amqp://localhost#x"),
        ("RABBITMQ_URL", "amqp://localhost/,amqp://"),
        ("RABBITMQ_URL", "amqp://localhost/,http://localhost"),
        ("RABBITMQ_URL", "amqp://localhost/,localhost"),
        ("RABBITMQ_URL", "amqp://localhost,localhost"),
        ("RABBITMQ_QUEUE", "é" * 125),
        ("RABBITMQ_QUEUE", "a\nb"),
        ("QUOTA_PREFIX", "a b"),
        ("QUOTA_PREFIX", "{a}"),
        ("QUOTA_PREFIX", "x" * 65),
        ("QUOTA_PREFIX", "é"),
        ("SERVICE_NAME", "x" * 65),
        ("SERVICE_NAME", "a\nb"),
        ("SERVER_A_HOST", "a b"),
        ("SERVER_A_HOST", "http://a"),
        ("SERVER_A_HOST", "a..b"),
        ("SERVER_A_HOST", "x" * 64),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_cannot_be_meant_is_refused_without_repeating_it(name: str, text: str) -> None:
    """The error says what to write; what was written may be a secret."""
    with pytest.raises(ValueError, match="must") as raised:
        named(name).read(text)
    assert text not in str(raised.value)
