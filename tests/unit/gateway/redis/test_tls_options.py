"""The TLS settings in the URL of a Redis."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any

import pytest

from gateway.redis.tls_options import take
from gateway.tls.settings import Tls


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, Tls()),
        (
            {"cafile": "a", "capath": "b", "certfile": "c", "keyfile": "d"},
            Tls(cafile="a", capath="b", certfile="c", keyfile="d"),
        ),
        (
            {
                "ssl_ca_certs": "a",
                "ssl_ca_path": "b",
                "ssl_certfile": "c",
                "ssl_keyfile": "d",
                "ssl_password": "e",
            },
            Tls(cafile="a", capath="b", certfile="c", keyfile="d", password="e"),
        ),
        ({"cadata": b64encode(b"der").decode()}, Tls(cadata=b"der")),
        ({"ssl_ca_data": "pem"}, Tls(cadata="pem")),
        ({"no_verify_ssl": "1"}, Tls(verifies=False)),
        ({"no_verify_ssl": "0"}, Tls()),
        ({"ssl_cert_reqs": "none"}, Tls(verifies=False)),
        ({"ssl_cert_reqs": "optional"}, Tls()),
        ({"ssl_check_hostname": False}, Tls(verifies_name=False)),
        ({"ssl_check_hostname": None}, Tls()),
        ({"ssl_min_version": 772, "ssl_ciphers": "x"}, Tls(minimum=ssl.TLSVersion.TLSv1_3, ciphers="x")),
    ],
)
def test_both_names_are_known(options: dict[str, Any], found: Tls) -> None:
    """Redis-py's, and those of RabbitMQ's URL; other options are left."""
    left = {"db": 1, **options}
    assert take(left) == found
    assert left == {"db": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"cafile": "a", "ssl_ca_certs": "b"},
        {"cafile": ""},
        {"cadata": "?"},
        {"no_verify_ssl": "yes"},
        {"ssl_cert_reqs": "s3cr3t"},
        {"ssl_min_version": 770},
        {"ssl_min_version": 1},
    ],
)
def test_what_makes_no_sense_is_a_mistake(options: dict[str, Any]) -> None:
    """Nothing is passed over, and no old version of TLS spoken."""
    with pytest.raises(ValueError, match=r"^[^3]*$"):
        take(options)
