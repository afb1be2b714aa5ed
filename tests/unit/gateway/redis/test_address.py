"""Where a Redis server is, and the connections that redis-py opens to it. The server is played here."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected

from gateway.redis.address import Address, TlsConnection
from tests.support.redis_peer import HOST, listening, ok, packed


async def says(command: list[bytes]) -> bytes:
    """SAY x is answered with x, GONE by closing, all else with OK."""
    return packed(command[1]) if command[0] == b"SAY" else b"+OK\r\n"


async def test_replies_come_in_the_order_of_the_commands() -> None:
    """On one connection, after the login and the choice of the database."""
    async with listening(says) as peer:
        address = Address.of(f"redis://user:secret@{HOST}:{peer.port}/3")
        assert await address.ask(("SAY", "one"), ("SAY", "two")) == [b"one", b"two"]
        assert peer.connections == 1
        await peer.closed()
    assert peer.commands[0] == [b"AUTH", b"user", b"secret"]
    assert [b"SELECT", b"3"] in peer.commands
    assert peer.names()[-2:] == [b"SAY", b"SAY"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-ERR no such command\r\n", ResponseError),
        (None, Disconnected),
        (b"-NOAUTH who\r\n", AuthenticationError),
    ],
)
async def test_a_connection_is_closed_whatever_came(reply: bytes | None, error: type[RedisError]) -> None:
    """An error is raised as redis-py has it."""

    async def answer(command: list[bytes]) -> bytes | None:
        return reply if command[0] == b"SAY" else b"+OK\r\n"

    async with listening(answer) as peer:
        with pytest.raises(error):
            await Address.of(peer.url).ask(("SAY", "one"))
        await peer.closed()


async def test_where_nothing_listens() -> None:
    """It is an error of redis-py, too."""
    with pytest.raises(Disconnected, match=f"{HOST}:1"):
        await Address.of(f"redis://{HOST}:1").ask(("PING",))


def test_what_the_url_may_not_say() -> None:
    """Options that would end a connection which waits, repeat a command, or change the form of replies."""
    options = Address.of(
        "redis://h?socket_timeout=1&health_check_interval=5&decode_responses=yes&protocol=3&max_connections=2&timeout=9"
        "&socket_keepalive=yes"
    ).options
    assert (options["socket_timeout"], options["health_check_interval"]) == (None, 0)
    assert (options["decode_responses"], options["protocol"]) == (False, 2)
    assert options["retry"].get_retries() == 0
    assert options.keys().isdisjoint({"max_connections", "timeout"})
    assert options["socket_keepalive"] is True


@pytest.mark.parametrize(
    ("url", "text", "kind"),
    [
        ("redis://h", "h:6379", None),
        ("redis://h:1/2", "h:1", None),
        ("rediss://[::1]:2", "::1:2", TlsConnection),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock", UnixDomainSocketConnection),
    ],
)
async def test_a_server_is_where_its_url_says(url: str, text: str, kind: type | None) -> None:
    """It is its own place, however often it is looked for."""
    address = Address.of(url)
    assert str(address) == text
    assert await address.find() is address
    assert kind is None or isinstance(address.connection(), kind)


def test_another_server_is_opened_in_the_same_way() -> None:
    """But for what is said to be different."""
    here = Address.of("rediss://user:secret@here:1/4?client_name=gw")
    there = here.at("there", 2, db=0)
    assert (there.host, there.port, there.kind) == ("there", 2, here.kind)
    assert {name for name in here.options if here.options[name] != there.options[name]} == {
        "host",
        "port",
        "db",
    }


@pytest.mark.parametrize(
    "url", ["", "host", "redis://a,b", "redis://h/one", "redis://h#x", "http://h", "unix://h/p"]
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    """redis-py would take most of these for something."""
    with pytest.raises(ValueError, match="not the URL of a Redis server"):
        Address.of(url)


def test_a_secret_is_taken_out_of_an_error() -> None:
    """Where there is none, nothing is."""
    assert Address.of("redis://:hunter2@h").without_secret("AUTH 'hunter2'?") == "AUTH '…'?"
    assert Address.of("redis://h").without_secret("AUTH ''?") == "AUTH ''?"


async def test_a_command_may_have_any_length() -> None:
    """The words are packed as they are."""
    async with listening(ok) as peer:
        await Address.of(peer.url).ask(("A", "b c", "d" * 70_000))
    assert peer.commands[-1] == [b"A", b"b c", b"d" * 70_000]
