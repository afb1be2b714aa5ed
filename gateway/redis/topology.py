"""Which node of a Redis Cluster serves which hash slot, as redis-py's cluster client finds out and keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import count
from typing import Any

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisClusterException, RedisError

from gateway.redis.address import Address

_ANSWER_SECONDS = 0.5

Node = tuple[str, int]
"""A node's host and port."""


class Topology:
    """What the nodes have said; ``slots`` has the primary and then the replicas of each slot that is served."""

    def __init__(self, slots: Mapping[int, Sequence[ClusterNode]]) -> None:
        self._slots = slots
        # The slots of one range share one list.
        ranges = {id(nodes): nodes for nodes in slots.values()}.values()
        self.primaries = frozenset((nodes[0].host, int(nodes[0].port)) for nodes in ranges)
        self.unserved = REDIS_CLUSTER_HASH_SLOTS - len(slots)
        """How many slots no node serves."""

    def primary_of(self, key: bytes) -> Node | None:
        """The node that serves the key's slot."""
        nodes = self._slots.get(key_slot(key))
        return (nodes[0].host, int(nodes[0].port)) if nodes else None

    @cached_property
    def keys(self) -> Mapping[Node | None, bytes]:
        """Where every slot is served, a key of each primary that nobody uses."""
        found: dict[Node | None, bytes] = {}
        keys = (b"claim:{%d}:ping" % n for n in count())
        while len(found) < len(self.primaries):
            key = next(keys)
            found.setdefault(self.primary_of(key), key)
        return found


async def discover(addresses: Iterable[Address]) -> Topology:
    """Ask these nodes, in random order, until one knows who serves every slot; else, what they know together.

    Waits 0.5 s for a node's answer, and keeps the event loop busy for some milliseconds. Raises what the last node's
    silence, or its answer, leads to.
    """
    manager = NodesManager(
        [_Asked(address) for address in addresses],
        require_full_coverage=False,
        connection_kwargs={},
        dynamic_startup_nodes=False,
    )
    try:
        # redis-py also looks for a primary to send commands without a key to, and there may be none.
        with suppress(IndexError):
            await manager.initialize()
    except RedisClusterException as error:
        raise error.__cause__ or error from None
    return Topology(manager.slots_cache)


class _Asked(ClusterNode):
    """A node that redis-py asks, on a connection that is opened as ``address`` says and closed at once."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host, address.port)
        self._address = address

    async def execute_command(self, *_: Any, **__: Any) -> Any:
        """The reply to CLUSTER SLOTS, the one command that ``NodesManager`` sends."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                (reply,) = await self._address.ask(("CLUSTER", "SLOTS"))
        except (TimeoutError, RedisError) as error:
            # redis-py would take any refusal for a server without cluster mode, and not say whose it is.
            reason = self._address.without_secret(str(error)) or f"no answer within {_ANSWER_SECONDS:g} s"
            raise Disconnected(f"{self._address}: {reason}") from None
        for _first, _last, *nodes in reply:
            for node in nodes:
                # One that does not know its own host, or may not tell it, is where the one that answers is.
                if node[0] in {None, b"", b"?"}:
                    node[0] = self._address.host
        return reply
