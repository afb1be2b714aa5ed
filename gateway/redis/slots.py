"""Which node of a Redis Cluster serves which slot."""

from __future__ import annotations

from functools import cached_property
from itertools import count
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

Node = tuple[str, int]
"""A node's host and port."""


class Slots:
    """What a node, reached under ``host``, has answered to CLUSTER SLOTS."""

    def __init__(self, reply: list[Any], host: str) -> None:
        # A slot's primary stands before its replicas.
        self._ranges = [(first, last, _node(nodes[0], host)) for first, last, *nodes in reply]
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, node in self._ranges:
            self._owners[first : last + 1] = [node] * (last + 1 - first)
        self.nodes = frozenset(node for _, _, node in self._ranges)
        self.unserved = self._owners.count(None)
        """How many slots belong to no node."""

    def node_of(self, key: bytes) -> Node | None:
        """The primary that serves the key's slot."""
        return self._owners[key_slot(key)]

    @cached_property
    def keys(self) -> dict[Node, bytes]:
        """For each primary a key that it serves, and that nobody uses."""
        found: dict[Node, bytes] = {}
        for n in count():
            key = b"claim:{%d}:ping" % n
            node = self.node_of(key)
            if node is not None:
                found.setdefault(node, key)
            if len(found) == len(self.nodes):
                break
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slots) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]


def _node(described: list[Any], host: str) -> Node:
    # No host, or an unknown one ("?"): the one under which the answering node was reached.
    name = (described[0] or b"").decode()
    return (host if name in {"", "?"} else name), described[1]
