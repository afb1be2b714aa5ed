"""The transport to a Redis Cluster: one link to each of its primaries, chosen by the slot of a command's first key."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected

from gateway.dependency import ConnectionWatcher
from gateway.redis.address import Address
from gateway.redis.link import Link, NotSent
from gateway.redis.topology import Node, Topology, discover
from pipeline.timing.timeouts import within

_logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 5.0
_PAUSE_SECONDS = (0.1, 1.0)
_RETIRE_SECONDS = 1.0
_SEE = "redis-cli --cluster check says more"


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """Some nodes of the cluster, of which any tells about all others; all are opened in the same way."""

    seeds: Sequence[Address]

    def __str__(self) -> str:
        """``cluster of HOST:PORT,HOST:PORT``."""
        return f"cluster of {','.join(map(str, self.seeds))}"

    def node(self, node: Node) -> Address:
        """One of its nodes."""
        return self.seeds[0].at(*node)


class ClusterLink:
    """As ``Link``: connects, and connects again for ever once started.

    Which node serves which slot is asked at the start, every few seconds, and whenever there is a reason to doubt it: a
    node says so, or a link is down. A command is sent a second time only when the first node has answered that it did
    not carry it out since another node serves the slot (MOVED). Where a slot is on its way to another node (ASK,
    TRYAGAIN) the command fails: scripts of two keys are not carried out there, so that nothing is gained by beginning
    what cannot go on.
    """

    def __init__(
        self, address: ClusterAddress, call_seconds: float, on_connection: ConnectionWatcher
    ) -> None:
        self.address = address
        self._call_seconds = call_seconds
        self._on_connection = on_connection
        self._links: dict[Node, Link] = {}
        self._up: set[Link] = set()
        self._is_up = False
        self._topology = Topology({})
        # Why no node has told the topology; None once one has.
        self._down: str | None = "not started"
        self._attempted = asyncio.Event()  # Calls wait for the first attempt.
        self._attempted.set()
        self._doubt = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to connect."""
        self._attempted.clear()
        self._tasks.add(asyncio.create_task(self._run(), name="redis cluster"))

    async def close(self) -> None:
        """Disconnect; calls that are under way raise ``ConnectionError``."""
        self._topology, self._down = Topology({}), "closed by this gateway"
        self._attempted.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for link in self._links.values():
            await link.close()

    async def ping(self) -> None:
        """Return when all slots are served by nodes that take writes. Raises as ``execute``; takes its time."""
        await self._attempted.wait()
        if unserved := self._topology.unserved:
            raise NotSent(self._down or f"no node serves {unserved} of the hash slots: {_SEE}")
        await asyncio.gather(*(self._at(key, ("DEL", key)) for key in self._topology.keys.values()))

    async def execute(self, *command: bytes | str | int) -> Any:
        """The reply to ``command``, a script with at least one key. See ``Link.execute``.

        What a node certainly did not carry out, since it does not serve the slot, counts as not sent.
        """
        first_key = command[3]
        assert isinstance(first_key, bytes)
        step = self._at(first_key, command)
        # Each link bounds its own calls; so what is left to bound is the wait for the first attempt.
        return await (step if self._attempted.is_set() else within(self._call_seconds, step))

    async def _at(self, key: bytes, command: tuple[bytes | str | int, ...]) -> Any:
        started = time.monotonic()
        await self._attempted.wait()
        node = self._topology.primary_of(key)
        if node is None:
            self._doubt.set()
            raise NotSent(self._down or f"no node serves the client's hash slot: {_SEE}")
        try:
            try:
                return await self._link(node).execute(*command)
            except MovedError as moved:
                self._doubt.set()
                node = (moved.host or node[0], moved.port)
                seconds_left = started + self._call_seconds - time.monotonic()
                return await within(seconds_left, self._link(node).execute(*command))
        except (AskError, ClusterDownError, TryAgainError, Disconnected) as error:
            self._doubt.set()
            if isinstance(error, AskError):
                raise NotSent(f"hash slot {error.slot_id} is being moved to another node") from None
            # Only where the connection was lost may the command have been carried out.
            failure = type(error) if isinstance(error, Disconnected) else NotSent
            raise failure(f"{node[0]}:{node[1]}: {error}") from None

    def _link(self, node: Node) -> Link:
        if self._down is not None:
            raise NotSent(self._down)
        if node not in self._links:
            link = Link(self.address.node(node), self._call_seconds, lambda up: self._changed(link, up))
            self._links[node] = link
            link.start()
        return self._links[node]

    def _changed(self, link: Link, up: bool) -> None:
        if up:
            self._up.add(link)
        else:
            self._up.discard(link)
            self._doubt.set()
        self._tell()

    def _tell(self) -> None:
        links = [self._links.get(node) for node in self._topology.primaries]
        is_up = not self._topology.unserved and self._up.issuperset(links)
        if is_up != self._is_up:
            self._is_up = is_up
            self._on_connection(is_up)

    async def _run(self) -> None:
        while True:
            self._doubt.clear()
            await self._refresh()
            self._attempted.set()
            self._tell()
            if self._is_up:
                # Python 3.11's wait_for would forget that it was cancelled when the doubt came in the same moment.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REFRESH_SECONDS):
                        await self._doubt.wait()
            # Always a pause: when a node fails, all calls on it are reasons to doubt.
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 - jitter

    async def _refresh(self) -> None:
        """Ask the nodes that are up and those that were configured; keep what is known when none of them tells."""
        up = [self.address.node(node) for node, link in self._links.items() if link in self._up]
        try:
            topology = await discover([*up, *self.address.seeds])
        except Exception as error:  # noqa: BLE001 - a bug included: the next attempt may do better
            if not self._attempted.is_set():
                _logger.warning("Redis at %s: %s", self.address, error)
            if self._down is not None:
                self._down = str(error)
            return
        before, self._topology, self._down = self._topology, topology, None
        if topology.primaries == before.primaries:
            return
        names = ", ".join(sorted(f"{host}:{port}" for host, port in topology.primaries))
        _logger.info("Redis at %s: the hash slots are served by %s", self.address, names or "no node")
        for node in topology.primaries:
            self._link(node)
        for node in self._links.keys() - topology.primaries:
            task = asyncio.create_task(_retire(self._links.pop(node)), name="redis link retires")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _retire(link: Link) -> None:
    """Close a link that nobody uses any more, once what is in flight on it has had its time."""
    try:
        await asyncio.sleep(_RETIRE_SECONDS)
    finally:
        await link.close()
