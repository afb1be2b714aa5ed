"""What the nodes of a Redis Cluster say of its slots. They are played here, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Disconnected

from gateway.redis.address import Address
from gateway.redis.topology import Topology, discover
from tests.support.redis_peer import HOST, Peer, listening, packed

LAST = 16383


def node(host: str | None, port: int) -> list[Any]:
    """As a node describes another: its id and what else there is are passed over."""
    return [host, port, "id", []]


@asynccontextmanager
async def node_that_says(said: Sequence[Any] | bytes) -> AsyncIterator[Peer]:
    """A node with these ranges of slots, or with these bytes for a reply."""

    async def answer(command: list[bytes]) -> bytes:
        if command != [b"CLUSTER", b"SLOTS"]:
            return b"+OK\r\n"
        return said if isinstance(said, bytes) else packed(said)

    async with listening(answer) as peer:
        yield peer


async def discovered(*all_say: Sequence[Any] | bytes) -> Topology:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(node_that_says(said)) for said in all_say]
        return await discover(Address.of(peer.url) for peer in peers)


async def test_a_slot_is_served_by_the_first_node_of_its_range() -> None:
    """The others are its replicas."""
    topology = await discovered(
        [[0, 8191, node("a", 1), node("r", 9)], [8192, LAST, node("b", 2), node("a", 1)]]
    )
    assert topology.primaries == {("a", 1), ("b", 2)}
    assert topology.unserved == 0
    for name in (b"one", b"two", b"three"):
        key = b"claim:{" + name + b"}:key"
        assert topology.primary_of(key) == (("a", 1) if key_slot(name) <= 8191 else ("b", 2))


async def test_slots_that_nobody_serves_are_counted() -> None:
    """A cluster may have gaps, or may not have been formed at all."""
    empty = await discovered([])
    assert (empty.unserved, empty.primaries) == (LAST + 1, frozenset())
    topology = await discovered([[1, LAST - 1, node("a", 1)]])
    assert topology.unserved == 2
    gap = next(key for key in (b"%d" % n for n in range(10**6)) if key_slot(key) == LAST)
    assert topology.primary_of(gap) is None


async def test_whoever_knows_all_slots_is_believed_alone() -> None:
    """A node that was reset knows none, whichever is asked first."""
    for _ in range(10):
        topology = await discovered([], [[0, LAST, node("a", 1)]], [])
        assert topology.unserved == 0
        assert topology.primaries == {("a", 1)}


async def test_a_node_that_does_not_tell_a_host_means_the_one_that_is_asked() -> None:
    """So the documentation of CLUSTER SLOTS has it: an empty host, none, or a question mark."""
    topology = await discovered(
        [[n, n, node(host, n + 1), node(host, 9)] for n, host in enumerate(("", None, "?"))]
    )
    assert topology.primaries == {(HOST, 1), (HOST, 2), (HOST, 3)}


def test_there_is_a_key_for_every_primary() -> None:
    """Even for one that serves a single slot; it belongs to no client."""
    single, most = ([ClusterNode(host, 1)] for host in "ab")
    topology = Topology({slot: single if slot == LAST else most for slot in range(LAST + 1)})
    assert set(topology.keys) == topology.primaries == {("a", 1), ("b", 1)}
    for owner, key in topology.keys.items():
        assert topology.primary_of(key) == owner
        assert key.startswith(b"claim:{")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"-ERR This instance has cluster support disabled\r\n", "cluster support disabled"),
        (b"-NOPERM User gw has no permissions to run the 'cluster|slots' command\r\n", "no permissions"),
        (b"-ERR unknown command, with args beginning with: 's3cr3t'\r\n", "beginning with: '…'"),
        (b"", "no answer within 0.5 s"),
    ],
)
async def test_a_refusal_is_told_in_the_words_of_the_node(said: bytes, reason: str) -> None:
    """With its address, and without the password."""
    async with node_that_says(said) as peer:
        address = Address.of(f"redis://:s3cr3t@{HOST}:{peer.port}")
        with pytest.raises(Disconnected) as raised:
            await discover([address])
    assert str(raised.value).startswith(f"{HOST}:{peer.port}: ")
    assert reason in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


async def test_one_that_tells_nothing_of_use_is_passed_over() -> None:
    """It is not there, hangs, or says what is no answer to the question; whichever is asked first."""
    whole = [[0, LAST, node("a", 1)]]
    async with (
        asyncio.timeout(30),
        node_that_says(b"") as hanging,
        node_that_says(b"+OK\r\n") as confused,
        node_that_says(whole) as peer,
    ):
        for _ in range(5):
            urls = (f"redis://{HOST}:1", hanging.url, confused.url, peer.url)
            assert (await discover(map(Address.of, urls))).primaries == {("a", 1)}


async def test_nothing_is_left_open() -> None:
    """The connection is closed as soon as the node has answered; nothing goes on in the background."""
    async with node_that_says([[0, LAST, node("a", 1)]]) as peer:
        await discover([Address.of(peer.url)])
        assert peer.connections == 1
        await peer.closed()
