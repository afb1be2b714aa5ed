"""The stage ``auth``."""

from __future__ import annotations

import hashlib

import pytest

from gateway.config.clients import ConfiguredClients
from pipeline.facts import Client
from pipeline.failures import Refused
from pipeline.stages.auth import Auth, hint
from tests.support.asgi import Exchange, Inner

KEY = "a-key-of-acme-0123456789"
CLIENTS = ConfiguredClients(
    {
        KEY: {"name": "acme", "daily_quota": 5},
        "sha256:" + hashlib.sha256(b"a-hashed-key-01234").hexdigest(): {"name": "hashed"},
        "a-key-of-gone-0123456789": {"name": "gone", "is_active": False},
    }
)


async def test_the_client_behind_the_key_is_added() -> None:
    """What comes after knows who sends, and the log may show the key's beginning."""
    inner = Inner()
    exchange = await Exchange(headers={"api-key": KEY}).through(Auth(inner, CLIENTS))
    assert exchange.status == 202
    assert inner.context[Client] == Client("acme", daily_quota=5)
    assert inner.context.api_key_hint == "a-ke…"


async def test_a_key_configured_by_its_digest_is_known() -> None:
    """The configuration need not hold the key itself."""
    inner = Inner()
    await Exchange(headers={"api-key": "a-hashed-key-01234"}).through(Auth(inner, CLIENTS))
    assert inner.context[Client].name == "hashed"


async def test_white_space_around_the_key_is_no_part_of_it() -> None:
    """A proxy may pad a header's value (RFC 9110, 5.5)."""
    inner = Inner()
    await Exchange(headers={"api-key": f" {KEY}\t"}).through(Auth(inner, CLIENTS))
    assert inner.context[Client].name == "acme"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"api-key": ""},
        {"api-key": "unknown-key-0123456789"},
        {"api-key": "a-key-of-gone-0123456789"},
        {"api-key": KEY + "\xa0"},
        {"api-key": KEY[:-1] + " " + KEY[-1]},
        {"api-key": KEY.upper()},
        {"api-key": "sha256:" + hashlib.sha256(b"a-hashed-key-01234").hexdigest()},
        {"api-key": "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"},
    ],
    ids=str,
)
async def test_absent_unknown_and_inactive_read_alike(headers: dict[str, str]) -> None:
    """Whoever probes learns nothing: one code, one message, one challenge, and nothing behind is reached."""
    inner = Inner()
    with pytest.raises(Refused) as refused:
        await Exchange(headers=headers).through(Auth(inner, CLIENTS))
    assert refused.value.code.name == "UNAUTHORIZED"
    assert refused.value.message == refused.value.code.message
    assert refused.value.details is None
    assert refused.value.headers == ((b"www-authenticate", b'API-Key realm="sms"'),)
    assert inner.reached == []


async def test_two_keys_in_one_request_are_no_key() -> None:
    """A request with a valid key and another one is nobody's."""
    exchange = Exchange()
    exchange.scope["headers"] = [(b"api-key", KEY.encode()), (b"api-key", b"x")]
    with pytest.raises(Refused, match="UNAUTHORIZED"):
        await exchange.through(Auth(Inner(), CLIENTS))


@pytest.mark.parametrize(
    ("key", "shown"),
    [(b"sms_abcdefgh", "sms_…"), (b"12345678", "1234…"), (b"1234567", "…"), (b"abc", "…"), (b"", "…")],
)
def test_of_a_key_four_characters_are_shown(key: bytes, shown: str) -> None:
    """Of a key so short that four characters are half of it, nothing is."""
    assert hint(key) == shown
