"""Which node of a Redis Cluster gets a command, and how often. The nodes are played here, on real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ResponseError

from gateway.redis import cluster
from gateway.redis.address import Address
from gateway.redis.cluster import ClusterAddress, ClusterLink
from gateway.redis.link import NotSent
from tests.support.redis_peer import HOST, Peer, listening, packed, silence

SOON = 30.0
LAST = 16383
KEY = b"claim:{x}:key"
SLOT = key_slot(KEY)
COMMAND: tuple[bytes | str | int, ...] = ("EVALSHA", "sha", 1, KEY, "argument")


class Node:
    """One node. ``owners`` says who serves all slots, and ``says`` answers scripts: both may change at any time."""

    def __init__(self) -> None:
        self.says: bytes | None = b"+done\r\n"
        self.slots: Callable[[], list[Any]] = list
        self.peer: Peer

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.peer.port

    @property
    def scripts(self) -> int:
        """How many scripts it was sent."""
        return self.peer.names().count(b"EVALSHA")

    async def answer(self, command: list[bytes]) -> bytes | None:
        match command[0]:
            case b"CLUSTER":
                return packed(self.slots())
            case b"EVALSHA":
                return self.says
        return b"+OK\r\n"

    def all_slots(self) -> list[Any]:
        """What is said when it serves them all."""
        return [[0, LAST, [*self.address, "id"]]]


@pytest.fixture(autouse=True)
def asked_soon_when_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only then, unless a test says so."""
    monkeypatch.setattr(cluster, "_REFRESH_SECONDS", 3600)
    monkeypatch.setattr(cluster, "_PAUSE_SECONDS", (0.05, 0.1))


@asynccontextmanager
async def nodes(count: int = 2) -> AsyncIterator[list[Node]]:
    """Some, of which the first serves all slots."""
    async with AsyncExitStack() as stack:
        found = [Node() for _ in range(count)]
        for node in found:
            node.peer = await stack.enter_async_context(listening(node.answer))
            node.slots = found[0].all_slots
        yield found


@asynccontextmanager
async def linked(
    *seeds: Node, call_seconds: float = SOON, told: list[bool] | None = None
) -> AsyncIterator[ClusterLink]:
    """A link that has begun to connect, and is closed again."""
    address = ClusterAddress([Address.of(node.peer.url) for node in seeds])
    link = ClusterLink(address, call_seconds, (told if told is not None else []).append)
    link.start()
    try:
        yield link
    finally:
        await link.close()


async def eventually(step: Callable[[], Awaitable[Any] | bool]) -> Any:
    """What ``step`` gives as soon as that is true."""
    async with asyncio.timeout(SOON):
        while True:
            with suppress(NotSent):
                found = step()
                if found := found if isinstance(found, bool) else await found:
                    return found
            await asyncio.sleep(0.02)


async def settled(link: ClusterLink, node: Node) -> None:
    """Wait until it is up, and ``node`` is asked for the topology no more."""
    await link.ping()
    # Once for the topology, and once again because no link was up by then.
    await eventually(lambda: node.peer.names().count(b"CLUSTER") == 2 and link._is_up)
    await asyncio.sleep(0.05)


async def test_a_command_goes_to_the_node_that_serves_its_slot() -> None:
    """The first calls wait until it is known which."""
    async with nodes() as (one, other):
        other.slots = one.slots = lambda: [
            [0, SLOT - 1, [*one.address, "id"]],
            [SLOT, SLOT, [*other.address, "id"], [*one.address, "id"]],
            [SLOT + 1, LAST, [*one.address, "id"]],
        ]
        async with linked(one) as link:
            assert await asyncio.gather(*(link.execute(*COMMAND) for _ in range(10))) == [b"done"] * 10
            await link.ping()
        assert (one.scripts, other.scripts) == (0, 10)
        # Each was asked to take a write under a key of its own.
        for node in (one, other):
            [key] = {command[1] for command in node.peer.commands if command[0] == b"DEL"} - {
                b"claim:{}:ping"
            }
            assert (key_slot(key) == SLOT) == (node is other)


async def test_moved_is_followed_once() -> None:
    """And the next command goes to the right node from the start."""
    async with nodes() as (old, new), linked(old) as link:
        await settled(link, old)
        await link.execute(*COMMAND)
        old.says = b"-MOVED %d %s:%d\r\n" % (SLOT, HOST.encode(), new.peer.port)
        old.slots = new.slots = new.all_slots
        assert await link.execute(*COMMAND) == b"done"
        assert (old.scripts, new.scripts) == (2, 1)
        await eventually(lambda: link._topology.primaries == {new.address})
        await link.execute(*COMMAND)
        assert (old.scripts, new.scripts) == (2, 2)


async def test_moved_without_a_host_means_the_same_host() -> None:
    """So nodes answer that do not tell their hosts."""
    async with nodes() as (old, new), linked(old) as link:
        old.says = b"-MOVED %d :%d\r\n" % (SLOT, new.peer.port)
        assert await link.execute(*COMMAND) == b"done"
        assert new.scripts == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (f"-ASK {SLOT} {HOST}:1", f"hash slot {SLOT} is being moved"),
        ("-TRYAGAIN Multiple keys request during rehashing of slot", "rehashing"),
        ("-CLUSTERDOWN Hash slot not served", "Hash slot not served"),
    ],
)
async def test_what_was_certainly_not_carried_out_is_not_sent_again(reply: str, reason: str) -> None:
    """The call fails, and may be undone without a trace; the nodes are asked anew."""
    async with nodes() as (one, other), linked(one) as link:
        await settled(link, one)
        one.says = f"{reply}\r\n".encode()
        with pytest.raises(NotSent, match=reason):
            await link.execute(*COMMAND)
        assert (one.scripts, other.scripts) == (1, 0)
        await eventually(lambda: one.peer.names().count(b"CLUSTER") > 2)


async def test_nodes_that_send_each_other_round_in_circles_are_left() -> None:
    """One redirection is followed, and no more."""
    async with nodes() as (one, other), linked(one) as link:
        for node, another in ((one, other), (other, one)):
            node.says = b"-MOVED %d %s:%d\r\n" % (SLOT, HOST.encode(), another.peer.port)
        with pytest.raises(NotSent, match="being moved"):
            await link.execute(*COMMAND)
        assert (one.scripts, other.scripts) == (1, 1)


async def test_it_closes_in_the_very_moment_in_which_it_begins_to_doubt() -> None:
    """Being woken does not make it overlook that it is to end."""
    async with nodes() as (one, _), linked(one) as link:
        await link.execute(*COMMAND)
        # The first attempt is over, and it waits for a reason: asyncio does not tell otherwise.
        await eventually(lambda: bool(link._doubt._waiters))
        one.says = b"-CLUSTERDOWN The cluster is down\r\n"
        with pytest.raises(NotSent):
            await link.execute(*COMMAND)
        async with asyncio.timeout(SOON):
            await link.close()


async def test_a_lost_connection_leaves_open_what_was_done() -> None:
    """The command is not sent a second time; the error names the node."""
    async with nodes() as (one, other), linked(one) as link:
        await link.execute(*COMMAND)
        one.says = None
        with pytest.raises(Disconnected, match=f"{HOST}:{one.peer.port}: connection lost") as raised:
            await link.execute(*COMMAND)
        assert not isinstance(raised.value, NotSent)
        assert (one.scripts, other.scripts) == (2, 0)


@pytest.mark.parametrize(
    ("reply", "error"), [("-NOSCRIPT none", NoScriptError), ("-ERR Error running script", ResponseError)]
)
async def test_errors_of_scripts_are_passed_on(reply: str, error: type[ResponseError]) -> None:
    """They are no reason to doubt the topology."""
    async with nodes() as (one, _), linked(one) as link:
        await link.ping()
        link._doubt.clear()
        one.says = f"{reply}\r\n".encode()
        with pytest.raises(error):
            await link.execute(*COMMAND)
        assert not link._doubt.is_set()


async def test_a_call_is_bounded_however_many_nodes_it_meets() -> None:
    """What the first has left of its time is all that the second has."""
    async with nodes() as (one, other), linked(one, call_seconds=1.0) as link:
        await link.ping()
        other.says = b""

        async def hesitate(command: list[bytes]) -> bytes | None:
            if command[0] != b"EVALSHA":
                return await one.answer(command)
            await asyncio.sleep(0.9)
            return b"-MOVED %d %s:%d\r\n" % (SLOT, HOST.encode(), other.peer.port)

        one.peer.answer = hesitate
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await link.execute(*COMMAND)
        assert asyncio.get_running_loop().time() - began < 1.7


async def test_a_call_does_not_wait_long_for_the_first_topology() -> None:
    """Nodes that hang are asked for half a second each, and a call has less."""
    async with nodes(3) as hanging:
        for node in hanging:
            node.peer.answer = silence
        async with linked(*hanging, call_seconds=0.2) as link:
            with pytest.raises(TimeoutError):
                await link.execute(*COMMAND)


async def test_a_node_that_is_gone_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed, once what was under way has had its time; the cluster is up all the while."""
    monkeypatch.setattr(cluster, "_REFRESH_SECONDS", 0.1)
    told: list[bool] = []
    async with nodes() as (one, other), linked(one, told=told) as link:
        # It asks again and again, though there is no reason to.
        await eventually(lambda: one.peer.names().count(b"CLUSTER") > 4)
        one.slots = other.slots = other.all_slots
        await eventually(lambda: link._links.keys() == {other.address})
        await link.ping()
        # Only the questions for the topology still open one, for a moment.
        await eventually(lambda: not one.peer.is_connected())
        assert await link.execute(*COMMAND) == b"done"
        assert (one.scripts, other.scripts) == (0, 1)
        assert told[-1] is True


async def test_it_is_up_when_every_primary_is(caplog: pytest.LogCaptureFixture) -> None:
    """And every slot is served; all nodes are named in the log."""
    caplog.set_level(logging.INFO)
    told: list[bool] = []
    async with nodes() as (one, other):

        def halves() -> list[Any]:
            return [[0, 8000, [*one.address, "id"]], [8001, LAST, [*other.address, "id"]]]

        def times_asked() -> int:
            # Any node may be asked: the one that was lost too, once it is there again.
            return sum(node.peer.names().count(b"CLUSTER") for node in (one, other))

        one.slots = other.slots = lambda: halves()[:1]
        async with linked(one, told=told) as link:
            with pytest.raises(NotSent, match="no node serves 8383 of the hash slots"):
                await link.ping()
            assert told == []
            one.slots = other.slots = halves
            await eventually(lambda: told == [True])
            await link.ping()
            asked = times_asked()
            other.peer.cut()
            await eventually(lambda: told[:2] == [True, False])
            await eventually(lambda: times_asked() > asked)
            await eventually(lambda: told[-1])
        assert told[-1] is False
    names = ", ".join(sorted(f"{HOST}:{node.peer.port}" for node in (one, other)))
    assert f"the hash slots are served by {names}" in caplog.text


async def test_a_slot_that_no_node_serves() -> None:
    """A call on it fails at once, and has the nodes asked anew."""
    async with nodes() as (one, _):
        one.slots = lambda: [[0, SLOT - 1, [*one.address, "id"]], [SLOT + 1, LAST, [*one.address, "id"]]]
        async with linked(one) as link:
            with pytest.raises(NotSent, match="no node serves the client's hash slot"):
                await link.execute(*COMMAND)
            one.slots = one.all_slots
            assert await eventually(lambda: link.execute(*COMMAND)) == b"done"


async def test_what_is_known_stays_when_no_node_tells() -> None:
    """A link that works goes on working."""
    async with nodes() as (one, other), linked(one, other) as link:
        await link.ping()
        one.slots = other.slots = lambda: ["nonsense"]
        asked = len(one.peer.commands)
        link._doubt.set()
        await eventually(lambda: len(one.peer.commands) > asked + 2)
        assert await link.execute(*COMMAND) == b"done"


async def test_where_there_is_no_cluster_the_reason_is_told_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Calls fail at once after the first attempt, which is repeated for ever."""
    async with nodes(1) as (one,):

        async def refuse(command: list[bytes]) -> bytes:
            disabled = b"-ERR This instance has cluster support disabled\r\n"
            return disabled if command[0] == b"CLUSTER" else b"+OK\r\n"

        one.peer.answer = refuse
        async with linked(one) as link:
            for _ in range(2):
                with pytest.raises(
                    NotSent, match=f"{HOST}:{one.peer.port}: This instance has cluster support"
                ):
                    await link.execute(*COMMAND)
            await eventually(lambda: one.peer.names().count(b"CLUSTER") > 2)
            one.peer.answer = one.answer
            assert await eventually(lambda: link.execute(*COMMAND)) == b"done"
    node = f"{HOST}:{one.peer.port}"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text for text in warnings if "cluster support" in text] == [
        f"Redis at cluster of {node}: {node}: This instance has cluster support disabled"
    ]


async def test_before_the_start_and_after_the_end() -> None:
    """Calls fail at once, and nothing is left running."""
    async with nodes(1) as (one,):
        link = ClusterLink(ClusterAddress([Address.of(one.peer.url)]), SOON, lambda _: None)
        for step in (link.ping(), link.execute(*COMMAND)):
            with pytest.raises(NotSent, match="not started"):
                await step
        before = asyncio.all_tasks()
        async with linked(one) as link:
            await link.ping()
        for step in (link.ping(), link.execute(*COMMAND)):
            with pytest.raises(NotSent, match="closed by this gateway"):
                await step
        assert {task for task in asyncio.all_tasks() - before if "redis" in task.get_name()} == set()


def test_all_nodes_are_opened_as_the_url_says() -> None:
    """With one login, whichever node it is."""
    address = ClusterAddress([Address.of("redis://u:p@a:1"), Address.of("redis://u:p@b:2")])
    assert str(address) == "cluster of a:1,b:2"
    assert str(address.node(("c", 3))) == "c:3"
    assert address.node(("c", 3)).options["password"] == "p"
