"""One episode: two gateways as users start them, servers of its own behind proxies, senders, and then the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiormq
import httpx
import redis

from gateway.redis import packing
from gateway.redis.keys import Keys
from pipeline.facts import derive_tracking_id
from tests.faults import oracle, stages
from tests.faults.driver import CLIENTS, NAMES, PROVIDERS, Driver
from tests.faults.ledger import Kind, Mark
from tests.faults.oracle import Run, Verdict
from tests.faults.proxy import Proxy
from tests.support.broker import channel_of, consume, remove_topology
from tests.support.gateways import Backend, Gateway
from tests.support.servers import HOST, RabbitServer, RedisServer

GATEWAYS = 2
CONCURRENCY = 12
# Leaves some of two cores to the servers, and to whoever else uses the machine.
PAUSE_SECONDS = 0.03

_RECOVERY_SECONDS = 60.0
_SETTLED_QUOTA_SECONDS = 20.0
_BETWEEN_SECONDS = 0.7
# What requests end by while something is broken; any other exception in a log is a bug.
_FAILURES = {
    "BrokerRefused",
    "BrokerUnknown",
    "CancelledError",
    "Refused",
    "StoreUnavailable",
    "TimeoutError",
    "Unconfirmed",
    "Unroutable",
}


@dataclass(frozen=True)
class Fault:
    """Something that is broken and mended again while the load goes on; ``kind`` says what is."""

    kind: str
    name: str
    inject: Callable[[World], None]


@dataclass
class Episode:
    """What an episode came to. ``recoveries`` holds each fault and the seconds, in their order."""

    seed: int
    verdict: Verdict
    recoveries: list[tuple[Fault, float]] = field(default_factory=list)
    kept: Path | None = None


class Servers:
    """Redis and RabbitMQ, started once for many episodes, each behind a proxy."""

    def __init__(self, store: RedisServer, broker: RabbitServer) -> None:
        self.store = store
        self.broker = broker
        self.store_leg = Proxy(store.port)
        self.broker_leg = Proxy(broker.port)

    def __enter__(self) -> Self:
        self.store_leg.__enter__()
        self.broker_leg.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.store_leg.__exit__()
        self.broker_leg.__exit__()

    def backend(self) -> Backend:
        """URLs through the proxies, and names that nobody has used before."""
        return Backend(
            "faults",
            f"redis://{HOST}:{self.store_leg.port}/0",
            f"amqp://guest:guest@{HOST}:{self.broker_leg.port}/",
        )


class World:
    """What a fault may break: servers, the legs to them, gateways, the senders' manners; and what it has to note."""

    def __init__(self, servers: Servers, seed: int, directory: Path) -> None:
        self.servers = servers
        self.seed = seed
        self.random = random.Random(seed)
        self.directory = directory
        self.backend = servers.backend()
        self.marks: list[Mark] = []
        self.violations: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self.restarts: list[float] = []
        self.gateways = [Gateway(directory, self._environ()) for _ in range(GATEWAYS)]
        ports = [gateway.port for gateway in self.gateways]
        self.driver = Driver(ports, seed, CONCURRENCY, PAUSE_SECONDS)

    @property
    def queue(self) -> str:
        """The name of the queue, of its exchange, and the prefix of the counters."""
        return self.backend.queue

    @contextlib.contextmanager
    def marked(self, kind: Kind) -> Iterator[None]:
        """Note that this happens now."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.marks.append(Mark(kind, began, time.monotonic()))

    def sleep(self, least: float, most: float) -> None:
        """Let the load go on for a while."""
        time.sleep(self.random.uniform(least, most))

    def direct_redis(self) -> redis.Redis:
        """A client of Redis that goes past the proxy."""
        return redis.Redis.from_url(self.servers.store.url, socket_timeout=5)

    def on_broker(self, work: Callable[[aiormq.abc.AbstractChannel], Any]) -> None:
        """Do something on a channel of the broker, past the proxy."""

        async def do() -> None:
            async with channel_of(self.servers.broker.url) as channel:
                await work(channel)

        asyncio.run(do())

    def take_queue(self) -> None:
        """Take everything off the queue, as Server B would, and remember it."""
        found = asyncio.run(consume(self.servers.broker.url, self.queue))
        self.taken += [json.loads(body) for _, body in found]
        for properties, body in found:
            whole = body + repr(list(properties)).encode()
            self.violations += oracle.private(whole, "an envelope", oracle.SECRET)
            if properties.message_id != json.loads(body)["tracking_id"] or properties.delivery_mode != 2:
                self.violations.append("an envelope's properties are not those of the contract")

    def restart(self, gateway: int) -> None:
        """Start a gateway that has ended, as a supervisor does."""
        self.restarts.append(time.monotonic())
        self.gateways[gateway].start(ready=False)

    def inject(self, fault: Fault) -> float:
        """Break and mend; returns how many seconds later every gateway was ready and accepted messages again.

        What is mended is whole when the fault returns; a gateway that it has started again counts from its start.
        """
        # A gateway that is killed takes its metrics with it.
        self._search_metrics()
        self.restarts.clear()
        fault.inject(self)
        began = min(self.restarts, default=time.monotonic())
        waiting = set(range(GATEWAYS))
        while waiting:
            waiting = {
                gateway
                for gateway in waiting
                if self.driver.last_accepted[gateway] < began or not _is_ready(self.gateways[gateway])
            }
            if time.monotonic() - began > _RECOVERY_SECONDS:
                self.violations.append(
                    f"gateways {sorted(waiting)} did not recover in {_RECOVERY_SECONDS:g} s"
                )
                break
            time.sleep(0.02)
        return time.monotonic() - began

    def used(self) -> dict[str, int]:
        """How many messages are counted, by client, over all days of the run."""
        used = dict.fromkeys(NAMES, 0)
        with self.direct_redis() as client:
            for name in NAMES:
                for key in client.scan_iter(f"{self.queue}:{{{name}}}:20*"):
                    used[name] += int(client.get(key) or 0)
        return used

    def _environ(self) -> dict[str, str]:
        return {
            **self.backend.environ(),
            "CLIENT_CONFIG": json.dumps(CLIENTS),
            "PROVIDERS_CONFIG": json.dumps(PROVIDERS),
            "PIPELINE": stages.PIPELINE,
        }

    def start(self) -> None:
        """Start the gateways, and return when they are ready."""
        with self.direct_redis() as client:
            client.flushall()
        with ThreadPoolExecutor(GATEWAYS) as pool:
            list(pool.map(Gateway.start, self.gateways))

    def collect(self) -> Run:
        """Everything that there is to judge, once it is all quiet; gives counters time to be put right."""
        self.take_queue()
        run = Run(self.driver.messages, self.marks, self.taken, self.used())
        deadline = time.monotonic() + _SETTLED_QUOTA_SECONDS
        while any(oracle.quota_difference(run).values()) and time.monotonic() < deadline:
            time.sleep(0.5)
            run = Run(self.driver.messages, self.marks, self.taken, self.used())
        # What the broker stored late is on the queue by now.
        self.take_queue()
        dead = asyncio.run(consume(self.servers.broker.url, f"{self.queue}.dead"))
        if dead:
            self.violations.append(f"{len(dead)} messages were dead-lettered")
        return run

    def search_for_private_data(self) -> None:
        """Look for what may stand nowhere but in the envelope; and for bugs that were logged."""
        self._search_metrics()
        for gateway in self.gateways:
            for line in gateway.log_path.read_bytes().splitlines():
                self.violations += oracle.private(line, f"the log: {line[:200]!r}")
                self.violations += _bug(line)
        for file in self.servers.store.directory.rglob("*.aof"):
            self.violations += oracle.private(file.read_bytes(), "Redis")
        for answer in self._stored_answers():
            self.violations += oracle.private(answer, f"a stored answer: {answer[:200]!r}")

    def _search_metrics(self) -> None:
        for gateway in self.gateways:
            # One that has not recovered is complained of elsewhere.
            with contextlib.suppress(httpx.TransportError):
                self.violations += oracle.private(gateway.http.get("/metrics").content, "the metrics")

    def _stored_answers(self) -> Iterator[bytes]:
        """The answers that Redis keeps, as they were before they were packed: what is deflated hides what it holds."""
        keys = Keys(self.queue)
        with self.direct_redis() as client:
            for message in self.driver.messages:
                if message.key is None:
                    continue
                fingerprint, packed = client.hmget(keys.claim(message.client, message.key), "f", "r")
                if packed is not None:
                    tracking_id = derive_tracking_id(message.client, message.key, fingerprint)
                    yield packing.unpack(packed, tracking_id)

    def end(self) -> None:
        """End the gateways as an operator does, and remove what they have declared."""
        for number, gateway in enumerate(self.gateways):
            if gateway.stop() != 0:
                self.violations.append(f"gateway {number} ended with exit code {gateway.process.returncode}")  # type: ignore[union-attr]
        asyncio.run(remove_topology(self.servers.broker.url, self.queue))

    def close(self) -> None:
        """Leave nothing running, whatever happened."""
        for gateway in self.gateways:
            gateway.http.close()
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.kill()


def play(
    servers: Servers, seed: int, faults: Sequence[Fault], say: Callable[[str], None] = lambda _: None
) -> Episode:
    """Inject these faults one after the other under load, and judge what came of it."""
    directory = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
    world = World(servers, seed, directory)
    recoveries: list[tuple[Fault, float]] = []
    try:
        world.start()
        with world.driver:
            world.sleep(_BETWEEN_SECONDS, 2 * _BETWEEN_SECONDS)
            for fault in faults:
                began = time.monotonic()
                recovery = world.inject(fault)
                recoveries.append((fault, recovery))
                say(f"  {fault.name}: {time.monotonic() - began:.1f} s, recovered in {recovery:.2f} s")
                world.sleep(_BETWEEN_SECONDS, 2 * _BETWEEN_SECONDS)
            world.driver.finish()
            run = world.collect()
        world.search_for_private_data()
        world.end()
        verdict = oracle.judge(run)
        verdict.violations += sorted(set(world.violations))
    finally:
        servers.store_leg.heal()
        servers.broker_leg.heal()
        world.close()
    episode = Episode(seed, verdict, recoveries)
    if verdict.violations:
        (directory / "violations.txt").write_text("\n".join(verdict.violations), encoding="utf-8")
        episode.kept = directory
    else:
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
    return episode


def _is_ready(gateway: Gateway) -> bool:
    try:
        return httpx.get(f"{gateway.url}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _bug(line: bytes) -> list[str]:
    """What a log line tells of a bug: it is no JSON, or an error that is none of the failures that are known."""
    try:
        entry = json.loads(line)
        level = entry["level"]
    except (ValueError, KeyError, TypeError):
        return [f"a log line that is no JSON object: {line[:300]!r}"]
    raised = {part for part in entry.get("exception", "").splitlines() if not part.startswith(" ")}
    # The library calls an error what is a lost connection to the gateway.
    is_of_library = entry.get("logger") == "aiormq.connection"
    if level not in ("ERROR", "CRITICAL") or (raised and raised <= _FAILURES) or is_of_library:
        return []
    return [f"logged as {level}: {line[:1500]!r}"]
