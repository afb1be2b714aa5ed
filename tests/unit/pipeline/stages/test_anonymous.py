"""The stage ``anonymous``."""

from __future__ import annotations

import pytest

from gateway.config.clients import ConfiguredClients
from pipeline.facts import Client
from pipeline.ports import Exposure
from pipeline.stages.anonymous import Anonymous
from tests.support.asgi import Exchange, Inner

LOOPBACK, PUBLIC = Exposure(is_loopback=True), Exposure(is_loopback=False)
CLIENTS = ConfiguredClients(
    {"key-1-0123456789": {"name": "acme"}, "key-2-0123456789": {"name": "gone", "is_active": False}}
)


@pytest.mark.parametrize("headers", [{}, {"api-key": "whatever"}], ids=str)
async def test_every_request_is_the_one_clients(headers: dict[str, str]) -> None:
    """With a key or without, the request is the configured client's."""
    inner = Inner()
    await Exchange(headers=headers).through(Anonymous(inner, CLIENTS, LOOPBACK, client="acme"))
    assert inner.context[Client] == Client("acme")


@pytest.mark.parametrize("name", ["nobody", "gone", "ACME", "", "s3cr3t-acme-0123456789"])
def test_the_client_must_be_configured_and_active(name: str) -> None:
    """Anything else refuses start-up, not the first request."""
    with pytest.raises(ValueError, match=r"^client must be the name of an active configured client$"):
        Anonymous(Inner(), CLIENTS, LOOPBACK, client=name)


def test_beyond_loopback_it_must_be_meant() -> None:
    """Listening to a network without keys is refused unless ``allow_public`` says that it is meant."""
    with pytest.raises(ValueError, match=r"SERVER_A_HOST=127\.0\.0\.1, or allow_public = true"):
        Anonymous(Inner(), CLIENTS, PUBLIC, client="acme")
    assert Anonymous(Inner(), CLIENTS, PUBLIC, client="acme", allow_public=True).client.name == "acme"


@pytest.mark.parametrize("almost", ["true", 1, "yes"])
def test_only_true_is_true(almost: bool) -> None:
    """A word that only looks like a yes opens nothing."""
    with pytest.raises(ValueError, match="allow_public"):
        Anonymous(Inner(), CLIENTS, PUBLIC, client="acme", allow_public=almost)
