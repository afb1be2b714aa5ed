"""The URLs of RabbitMQ: one, or those of several nodes."""

from __future__ import annotations

import ssl
from base64 import b64encode
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import certifi
import pytest

from gateway.rabbitmq import urls
from gateway.tls.settings import Tls


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


@pytest.mark.parametrize(
    ("option", "told"),
    [
        *(
            (f"heartbeat={value}", "option heartbeat")
            for value in ("abc", "", "0", "-1", "1.5", "65535", "٣")
        ),
        ("timeout=s3cr3t", "option timeout"),
        *((f"no_verify_ssl={value}", "option no_verify_ssl") for value in ("", "false", "true", "yes")),
        *((f"cadata={value}", "option cadata") for value in ("", "s3cr3t", "abc", "YWJj", "é")),
        ("auth=amqplain", "option auth"),
        *((f"{name}=", f"option {name}") for name in ("name", "cafile", "capath", "certfile", "keyfile")),
        ("hearbeat=30", "no options behind"),
        ("s3cr3t@h", ""),
        ("heartbeat=5&heartbeat=s3cr3t", "option heartbeat"),
    ],
)
def test_an_option_that_has_no_sense_is_told_what_to_write(option: str, told: str) -> None:
    """Aiormq would pass over it, connect otherwise than was meant, or fail when it connects."""
    with pytest.raises(ValueError, match=rf"^must have .*{told}") as raised:
        urls.parse(f"amqps://u:p@h/,amqps://u:p@h2/?{option}")
    assert "s3cr3t" not in str(raised.value)


def test_every_option_of_the_library_may_be_given() -> None:
    """As they are meant, they stay as they are."""
    certificate = ssl.create_default_context(cafile=certifi.where()).get_ca_certs(binary_form=True)[0]
    options = {
        "heartbeat": "30",
        "timeout": "3",
        "name": "x",
        "auth": "EXTERNAL",
        "cafile": "/ca.pem",
        "capath": "/ca",
        "cadata": b64encode(certificate).decode(),
        "certfile": "/cert.pem",
        "keyfile": "/key.pem",
        "no_verify_ssl": "0",
    }
    (found,) = urls.parse(f"amqps://h/?{urlencode(options)}")
    assert dict(parse_qsl(urlsplit(found).query)) == options


def test_all_mistakes_about_options_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"option heartbeat; .* option auth; .* no options behind") as raised:
        urls.parse("amqp://h/?heartbeat=x&auth=x&x=x,amqp://h2/?heartbeat=y")
    assert str(raised.value).count("heartbeat;") == 1


def test_options_of_tls_without_tls_are_a_mistake() -> None:
    """Aiormq would pass over them, and speak plain text to a server that is to be verified."""
    with pytest.raises(ValueError, match=r"amqps://.* cafile, certfile") as raised:
        urls.parse("amqp://h?cafile=/s3cr3t&certfile=/s3cr3t")
    assert "s3cr3t" not in str(raised.value)


def test_the_settings_of_tls() -> None:
    """Those of each node."""
    der = b64encode(b"x").decode()
    assert urls.tls("amqp://h") is None
    assert urls.tls("amqps://h") == Tls()
    assert urls.tls("amqps://h?cafile=a&certfile=b&keyfile=c%2Fd") == Tls(
        cafile="a", certfile="b", keyfile="c/d"
    )
    assert urls.tls(f"amqps://h?capath=a&no_verify_ssl=1&{urlencode({'cadata': der})}") == Tls(
        capath="a", cadata=b"x", verifies=False
    )
