"""The URLs of RabbitMQ: one, or those of several nodes."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.rabbitmq import urls


def test_a_url_gets_a_short_heartbeat_and_a_name() -> None:
    """Both are what one wants to have, unless one has said otherwise."""
    (found,) = urls.parse("amqp://u:p%40@h:1/v?timeout=3", "server-a publishing")
    assert found.startswith("amqp://u:p%40@h:1/v?")
    assert parse_qs(urlsplit(found).query) == {
        "timeout": ["3"],
        "heartbeat": ["5"],
        "name": ["server-a publishing"],
    }
    (found,) = urls.parse("amqp://h?heartbeat=30&name=x", "server-a")
    assert parse_qs(urlsplit(found).query) == {"heartbeat": ["30"], "name": ["x"]}


def test_several_are_tried_in_their_order() -> None:
    """A comma followed by another URL separates them; a comma in a password or, encoded, in a name does not."""
    found = urls.parse(" amqp://u:a,b@h1/v%2Cw,amqps://h2:2, amqp://[::1] ")
    assert [one.partition("?")[0] for one in found] == [
        "amqp://u:a,b@h1/v%2Cw",
        "amqps://h2:2",
        "amqp://[::1]",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cr3t",
        "http://u:s3cr3t@h",
        "amqp://",
        "amqp://u:s3cr3t@",
        "amqp://u:s3cr3t@h:0",
        "amqp://u:s3cr3t@h:99999",
        "amqp://u:s3cr3t@h:port",
        "amqp://u:s3#cr3t@h",
        "amqp://u:s3/cr3t@h",
        "amqp://[::1",
        "amqp://u:s3cr3t@h/,",
        "amqp://u:s3cr3t@h/,h2",
        "amqp://u:s3cr3t@h,h2/",
        "amqp://u:s3cr3t@h/,http://h2/",
        "amqp://u:s3cr3t@h/,amqp://",
    ],
)
def test_what_names_no_broker_is_told_what_to_write_and_is_not_repeated(url: str) -> None:
    """One mistake among several is one too many."""
    with pytest.raises(ValueError, match=r"^must be amqp://") as raised:
        urls.parse(url)
    assert raised.value.__context__ is None
    assert "s3" not in str(raised.value)
    assert "cr3t" not in str(raised.value)
