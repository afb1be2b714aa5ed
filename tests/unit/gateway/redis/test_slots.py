"""The slots of a Redis Cluster: who serves what."""

from __future__ import annotations

from typing import Any

from redis.crc import key_slot

from gateway.redis.slots import Slots

LAST = 16383


def node(host: bytes | None, port: int) -> list[Any]:
    """As a node describes another: its id and what else there is are passed over."""
    return [host, port, b"id", []]


def test_a_slot_is_served_by_the_first_node_of_its_range() -> None:
    """The others are its replicas."""
    slots = Slots([[0, 8191, node(b"a", 1), node(b"r", 9)], [8192, LAST, node(b"b", 2)]], "x")
    assert slots.nodes == {("a", 1), ("b", 2)}
    assert slots.unserved == 0
    for name in (b"one", b"two", b"three"):
        key = b"claim:{" + name + b"}:key"
        assert slots.node_of(key) == (("a", 1) if key_slot(name) <= 8191 else ("b", 2))


def test_slots_that_nobody_serves_are_counted() -> None:
    """A cluster may have gaps, or may not have been formed at all."""
    assert Slots([], "x").unserved == LAST + 1
    assert Slots([], "x").keys == {}
    slots = Slots([[1, LAST - 1, node(b"a", 1)]], "x")
    assert slots.unserved == 2
    gap = next(key for key in (b"%d" % n for n in range(10**6)) if key_slot(key) == LAST)
    assert slots.node_of(gap) is None


def test_a_node_that_does_not_know_its_own_name_is_where_it_was_reached() -> None:
    """So the documentation of CLUSTER SLOTS has it: an empty host, none, or a question mark."""
    slots = Slots([[n, n, node(host, n + 1)] for n, host in enumerate((b"", None, b"?"))], "reached")
    assert slots.nodes == {("reached", 1), ("reached", 2), ("reached", 3)}


def test_there_is_a_key_for_every_node() -> None:
    """Even for one that serves a single slot; it belongs to no client."""
    slots = Slots([[0, 0, node(b"a", 1)], [1, LAST - 1, node(b"b", 2)], [LAST, LAST, node(b"c", 3)]], "x")
    assert set(slots.keys) == slots.nodes
    for owner, key in slots.keys.items():
        assert slots.node_of(key) == owner
        assert key.startswith(b"claim:{")


def test_equal_answers_are_equal() -> None:
    """So that nothing is done when nothing has changed."""
    reply = [[0, LAST, node(b"a", 1)]]
    assert Slots(reply, "x") == Slots(reply, "y")
    assert Slots(reply, "x") != Slots([[0, LAST, node(b"a", 2)]], "x")
