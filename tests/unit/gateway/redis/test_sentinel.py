"""Which primary is followed when Sentinels say this and that. They are played here, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.exceptions import ConnectionError as Disconnected

from gateway.redis import urls
from gateway.redis.sentinel import SentinelAddress
from tests.support.redis_peer import HOST, listening, packed

Words = tuple[bytes, bytes, int]
"""A port that a Sentinel names as the primary's, the one that it describes, and the epoch of that."""


@asynccontextmanager
async def sentinel(says: Words | bytes | None) -> AsyncIterator[int]:
    """The port of one that says this: of a primary, an error, or nothing at all."""

    async def answer(command: list[bytes]) -> bytes:
        if says is None:
            return b""
        if command[0] != b"SENTINEL":
            return b"+OK\r\n"
        if isinstance(says, bytes):
            return says
        named, described, epoch = says
        if command[1] == b"GET-MASTER-ADDR-BY-NAME":
            return packed([b"localhost", named])
        fields = {
            b"name": command[2],
            b"ip": b"localhost",
            b"port": described,
            b"config-epoch": b"%d" % epoch,
        }
        return packed([word for field in fields.items() for word in field])

    async with listening(answer) as peer:
        yield peer.port


async def found(*all_say: Words | bytes | None, options: str = "") -> str:
    """Where the primary is found to be."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(sentinel(says)) for says in all_say]
        address = urls.parse(f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in ports)}/name{options}")
        assert isinstance(address, SentinelAddress)
        return str(await address.find())


async def test_the_most_recent_word_counts() -> None:
    """A Sentinel that was cut off still names the old primary, and may answer first."""
    old, new = (b"1", b"1", 3), (b"2", b"2", 4)
    assert await found(old, old, new) == "localhost:2"
    assert await found(new, old, old) == "localhost:2"


async def test_a_fail_over_that_is_not_over_counts_as_more_recent() -> None:
    """Who leads it names the new primary, while it still describes the old one, as all others do."""
    before, leading = (b"1", b"1", 3), (b"2", b"1", 3)
    assert await found(before, leading, before) == "localhost:2"


async def test_one_that_says_nothing_holds_up_nobody() -> None:
    """Nor does one that is not there, or does not know the primary."""
    assert await found(None, b"-ERR No such master with that name\r\n", (b"1", b"1", 1)) == "localhost:1"


@pytest.mark.parametrize(
    ("all_say", "reason"),
    [
        ((b"-ERR No such master with that name\r\n",), "No such master"),
        ((None,), f"no answer from {HOST}"),
        ((b"-NOAUTH Authentication required.\r\n",), "Authentication required"),
    ],
)
async def test_where_nobody_knows_the_reason_is_told(all_say: tuple[bytes | None, ...], reason: str) -> None:
    """In the words of each."""
    with pytest.raises(Disconnected, match=f"no Sentinel says where the primary 'name' is: .*{reason}"):
        await found(*all_say)


async def test_nothing_listens() -> None:
    """A Sentinel that is not there is one that does not know."""
    address = urls.parse(f"redis+sentinel://{HOST}:1/name")
    assert isinstance(address, SentinelAddress)
    with pytest.raises(Disconnected, match=r"no Sentinel says where the primary 'name' is: .*connect"):
        await address.find()


async def test_the_login_of_a_sentinel_is_its_own() -> None:
    """It is sent before anything is asked."""
    assert await found((b"1", b"1", 1), options="?sentinel_password=s3cr3t") == "localhost:1"
