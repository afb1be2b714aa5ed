"""What is said at the start of the certificates that the URLs name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.config import settings
from gateway.config.certificates import judge
from gateway.config.settings import ConfigurationError
from gateway.tls.settings import Tls

ENVIRON = {"CLIENT_CONFIG": '{"k-0123456789": {"name": "c"}}', "PROVIDERS_CONFIG": "{}"}


def test_each_is_said_once_and_by_its_variable() -> None:
    """Nodes of one cluster share their settings."""
    gone = Tls(cafile="/gone")
    mistakes, warnings = judge({"A": [gone, gone], "B": [Tls(verifies=False)] * 2}, time.time())
    assert [mistake.partition(" /")[0] for mistake in mistakes] == ["A: cafile"]
    assert [warning.partition(" is")[0] for warning in warnings] == ["B: the server's certificate"]


def test_the_start_is_refused_with_all_of_them(tmp_path: Path) -> None:
    """Whatever kind of URL names them."""
    gone = tmp_path / "gone.pem"
    for redis in ("rediss://h", "rediss+sentinel://h/name", "rediss+cluster://a,b"):
        environ = {
            **ENVIRON,
            "REDIS_URL": f"{redis}?cafile={gone}",
            "RABBITMQ_URL": f"amqps://a/?cafile={gone},amqps://b/?cafile={gone}",
        }
        with pytest.raises(ConfigurationError) as refused:
            settings.load(environ)
        assert [mistake.partition(":")[0] for mistake in refused.value.mistakes] == [
            "REDIS_URL",
            "RABBITMQ_URL",
        ]
        assert all(f"cafile {gone}: No such file" in mistake for mistake in refused.value.mistakes)


def test_verification_that_is_off_is_warned_of() -> None:
    """By any of its names."""
    for off in ("no_verify_ssl=1", "ssl_cert_reqs=none"):
        urls: dict[str, Any] = {"REDIS_URL": f"rediss://h?{off}", "RABBITMQ_URL": "amqps://h?no_verify_ssl=1"}
        found = settings.load({**ENVIRON, **urls}).warnings
        assert {warning.partition(":")[0] for warning in found if "not verified" in warning} == set(urls)
