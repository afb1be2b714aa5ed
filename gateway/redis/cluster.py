"""The transport to a Redis Cluster: one link to each of its primaries, chosen by the slot of a command's first key."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected

from gateway.dependency import ConnectionWatcher
from gateway.redis.address import Address
from gateway.redis.link import Link, NotSent
from gateway.redis.slots import Node, Slots
from pipeline.timeouts import within

_logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 0.5
_MOST_ASKED = 3
_PAUSE_SECONDS = (0.1, 1.0)
_RETIRE_SECONDS = 1.0
_SLOTS = ("CLUSTER", "SLOTS")


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

    Which node serves which slot is asked at the start, and again whenever there is a reason to doubt it: a node says
    so, or a link is down. A command is sent a second time only when the first node has answered that it did not carry
    it out since another node serves the slot (MOVED). Where a slot is on its way to another node (ASK, TRYAGAIN) the
    command fails: scripts of two keys are not carried out there, so that nothing is gained by beginning what cannot go
    on.
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
        self._slots: Slots | None = None
        # Why there are no slots; None during the first attempt, for which calls wait.
        self._down: str | None = "not started"
        self._attempted = asyncio.Event()
        self._doubt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to connect."""
        self._down = None
        self._task = asyncio.create_task(self._run(), name="redis cluster")

    async def close(self) -> None:
        """Disconnect; calls that are under way raise ``ConnectionError``."""
        self._slots, self._down = None, "closed"
        self._attempted.set()
        tasks = self._retiring | ({self._task} if self._task is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for link in self._links.values():
            await link.close()

    async def ping(self) -> None:
        """Return when all slots are served by nodes that take writes. Raises as ``execute``; takes its time."""
        # Who asks for a cluster's health is as good a reason as any to look again.
        self._doubt.set()
        slots = await self._known()
        if slots.unserved:
            raise NotSent(f"{slots.unserved} of the cluster's slots are served by no node")
        await asyncio.gather(*(self._at(key, ("DEL", key)) for key in slots.keys.values()))

    async def execute(self, *command: bytes | str | int) -> Any:
        """The reply to ``command``, a script with at least one key. See ``Link.execute``.

        What a node certainly did not carry out, since it does not serve the slot, counts as not sent.
        """
        first_key = command[3]
        assert isinstance(first_key, bytes)
        step = self._at(first_key, command)
        # Each link bounds its own calls; so what is left to bound is the wait for the first slots.
        return await (within(self._call_seconds, step) if self._slots is None else step)

    async def _at(self, key: bytes, command: tuple[bytes | str | int, ...]) -> Any:
        started = time.monotonic()
        node = (self._slots or await self._known()).node_of(key)
        if node is None:
            self._doubt.set()
            raise NotSent("its slot is served by no node")
        try:
            try:
                return await self._link(node).execute(*command)
            except MovedError as moved:
                self._doubt.set()
                node = (moved.host or node[0], moved.port)
                seconds_left = started + self._call_seconds - time.monotonic()
                return await within(seconds_left, self._link(node).execute(*command))
        except AskError as error:
            self._doubt.set()
            raise NotSent(f"slot {error.slot_id} is on its way to another node") from None
        except (ClusterDownError, TryAgainError) as error:
            self._doubt.set()
            raise NotSent(f"{node[0]}:{node[1]}: {error}") from None
        except Disconnected as error:
            self._doubt.set()
            raise type(error)(f"{node[0]}:{node[1]}: {error}") from None

    async def _known(self) -> Slots:
        if self._slots is None and self._down is None:
            await self._attempted.wait()
        if self._slots is None:
            raise NotSent(self._down)
        return self._slots

    def _link(self, node: Node) -> Link:
        if self._down is not None:
            raise NotSent(self._down)
        if node not in self._links:
            address = self.address.node(node)
            link = Link(address, self._call_seconds, lambda up: self._changed(link, up))
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
        if self._is_sound() != self._is_up:
            self._is_up = not self._is_up
            self._on_connection(self._is_up)

    def _is_sound(self) -> bool:
        slots = self._slots
        if slots is None or slots.unserved:
            return False
        return all(self._links[node] in self._up for node in slots.nodes)

    async def _run(self) -> None:
        least, most = _PAUSE_SECONDS
        failures = 0
        while True:
            self._doubt.clear()
            await self._refresh()
            self._attempted.set()
            self._tell()
            if self._is_sound():
                failures = 0
                await self._doubt.wait()
            # Always a pause: when a node fails, all calls on it are reasons to doubt.
            await asyncio.sleep(min(most, least * 2.0**failures) * random.uniform(0.5, 1))  # noqa: S311 - jitter
            failures = min(failures + 1, 10)

    async def _refresh(self) -> None:
        """Ask nodes, one after the other, until one tells the slots."""
        reason = "no node was asked"
        linked = [node for node, link in self._links.items() if link in self._up]
        asks: list[tuple[Address, Callable[[], Awaitable[Any]]]] = [
            (self.address.node(node), partial(self._links[node].execute, *_SLOTS))
            for node in random.sample(linked, min(_MOST_ASKED, len(linked)))
        ]
        asks += [
            (seed, partial(_ask, seed)) for seed in random.sample(self.address.seeds, len(self.address.seeds))
        ]
        for address, ask in asks:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    slots = Slots(await ask(), address.host)
            except TimeoutError:
                reason = f"no answer from {address}"
            except Exception as error:  # noqa: BLE001 - a bug included: another node may do better
                reason = address.without_secret(str(error))
            else:
                self._adopt(slots)
                return
        if self._slots is None:
            if self._down is None:
                _logger.warning("Redis at %s: %s", self.address, reason)
            self._down = reason

    def _adopt(self, slots: Slots) -> None:
        self._down = None
        if slots == self._slots:
            return
        self._slots = slots
        _logger.info("Redis at %s: %d primaries", self.address, len(slots.nodes))
        for node in slots.nodes:
            self._link(node)
        for node in self._links.keys() - slots.nodes:
            task = asyncio.create_task(self._retire(self._links.pop(node)), name="redis link retires")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, link: Link) -> None:
        """Close a link that nobody uses any more, once what is in flight on it has had its time."""
        try:
            await asyncio.sleep(_RETIRE_SECONDS)
        finally:
            await link.close()


async def _ask(seed: Address) -> Any:
    (reply,) = await seed.ask(_SLOTS)
    return reply
