"""What a fault may break: servers, the legs to them, gateways as users start them, and senders; and what was noted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiormq
import httpx
import redis

from tests.faults import clock, private, releases, stages
from tests.faults.driver import Driver
from tests.faults.ledger import Attempt, Kind, Mark
from tests.faults.load import CLIENTS, PROVIDERS
from tests.faults.oracle import Run, quota_difference
from tests.faults.servers import Servers
from tests.faults.setups import Setup
from tests.faults.state import State
from tests.support.broker import channel_of, consume, remove_topology
from tests.support.gateways import Gateway

GATEWAYS = 2
CONCURRENCY = 12
# Leaves some of two cores to the servers, and to whoever else uses the machine.
PAUSE_SECONDS = 0.03

_START_SECONDS = _RECOVERY_SECONDS = 60.0
_SETTLED_QUOTA_SECONDS = 20.0
_ALLOW = '[stage.idempotency]\non_store_error = "allow"\n\n[stage.quota]\non_store_error = "allow"\n'


@dataclass(frozen=True)
class Fault:
    """Something that is broken and mended again while the load goes on; ``kind`` says what is.

    ``fits`` tells whether it can happen in a setup.
    """

    kind: str
    name: str
    inject: Callable[[World], None]
    fits: Callable[[Setup], bool] = lambda setup: True


class World:
    """Two gateways under load, and all that they depend on. ``root`` holds the source that they run."""

    def __init__(
        self, servers: Servers, setup: Setup, seed: int, directory: Path, root: Path = releases.ROOT
    ) -> None:
        self.servers = servers
        self.setup = setup
        self.seed = seed
        self.random = random.Random(seed)
        self.directory = directory
        self.backend = servers.backend()
        self.clock_path = directory / "clock"
        if setup.is_embedded:
            self.backend.redis_url = self.backend.rabbitmq_url = f"embedded:{directory / 'gateway.db'}"
        self.marks: list[Mark] = []
        self.shifts: list[tuple[float, int]] = [(0.0, 0)]
        """From when on (monotonic seconds) the gateways' clock is how many seconds ahead."""
        self.violations: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self.restarts: list[float] = []
        self._fault: Fault | None = None
        self._checks = 0
        self._must_meet: list[tuple[str, Callable[[Attempt], bool]]] = []
        self.gateways = [
            Gateway(directory, self._environ(number, root), setup.workers) for number in range(GATEWAYS)
        ]
        self.state = State(self.backend, servers, self.spools())
        ports = [gateway.port for gateway in self.gateways]
        self.driver = Driver(ports, seed, CONCURRENCY, PAUSE_SECONDS)

    @property
    def queue(self) -> str:
        """The name of the queue, of its exchange, and the prefix of the counters."""
        return self.backend.queue

    def spools(self) -> list[Path]:
        """The file of each gateway's spool."""
        return [self.directory / f"spool-{number}.db" for number in range(GATEWAYS) if self.setup.has_spool]

    @contextlib.contextmanager
    def marked(self, kind: Kind, gateway: int | None = None) -> Iterator[None]:
        """Note that this happens now, to this gateway or to all."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.marks.append(Mark(kind, began, time.monotonic(), gateway))

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
        if self.setup.is_embedded:
            self.taken += self.backend.take_all()
            return
        found = asyncio.run(consume(self.servers.broker.url, self.queue))
        self.taken += [json.loads(body) for _, body in found]
        for properties, body in found:
            whole = body + repr(list(properties)).encode()
            self.violations += private.found_in(whole, "an envelope", private.SECRET)
            if properties.message_id != json.loads(body)["tracking_id"] or properties.delivery_mode != 2:
                self.violations.append("an envelope's properties are not those of the contract")

    def restart(self, gateway: int) -> None:
        """Start a gateway that has ended, as a supervisor does."""
        self.restarts.append(time.monotonic())
        _start(self.gateways[gateway], ready=False)

    def move_clock(self, seconds: int) -> None:
        """Have the gateways' clock be so far ahead of the machine's from now on, or below 0 behind it."""
        with self.marked(Kind.CLOCK):
            clock.set_ahead(self.clock_path, seconds)
            self.shifts.append((time.monotonic(), seconds))

    # Whether a fault bit.

    def check(self, has_bitten: object, what: str) -> None:
        """Note whether the fault has done what it is for; a fault that has not fails the round."""
        self._checks += 1
        if not has_bitten:
            assert self._fault is not None
            self.violations.append(f"the fault '{self._fault.name}' did not bite: {what}")

    def must_meet(self, what: str, meets: Callable[[Attempt], bool]) -> None:
        """Have the fault be one that did not bite unless it was met by such an attempt."""
        self._must_meet.append((what, meets))

    def inject(self, fault: Fault) -> float:
        """Break and mend; returns how many seconds later every gateway was ready and accepted messages again.

        What is mended is whole when the fault returns; a gateway that it has started again counts from its start. A
        spool has to be empty again, too.
        """
        # A gateway that is killed takes its metrics with it.
        self._search_metrics()
        self.restarts.clear()
        self._must_meet.clear()
        self._fault, self._checks = fault, 0
        first = len(self.driver.attempts)
        injected = time.monotonic()
        fault.inject(self)
        mended = time.monotonic()
        recovery = self._wait_for_recovery(min(self.restarts, default=mended))
        if fault.kind == "store":
            self.marks.append(Mark(Kind.STORE, injected, time.monotonic()))
        met = [attempt for attempt in self.driver.attempts[first:] if attempt.overlaps(injected, mended)]
        for what, meets in [*self._must_meet, ("no request met it", lambda attempt: True)]:
            self.check(any(map(meets, met)), what)
        if self._checks == 1:
            self.violations.append(f"the fault '{fault.name}' does not check that it bites")
        return recovery

    def _wait_for_recovery(self, began: float) -> float:
        waiting = set(range(GATEWAYS))
        while waiting or self.state.spooled():
            waiting = {
                gateway
                for gateway in waiting
                if self.driver.last_accepted[gateway] < began or not _is_ready(self.gateways[gateway])
            }
            if time.monotonic() - began > _RECOVERY_SECONDS:
                self.violations.append(
                    f"gateways {sorted(waiting)} did not recover in {_RECOVERY_SECONDS:g} s; "
                    f"{self.state.spooled()} messages wait in spools"
                )
                break
            time.sleep(0.02)
        return time.monotonic() - began

    # From the start to the end.

    def _environ(self, number: int, root: Path) -> dict[str, str]:
        clock.set_ahead(self.clock_path, 0)
        environ = {
            **self.backend.environ(),
            "CLIENT_CONFIG": json.dumps(CLIENTS),
            "PROVIDERS_CONFIG": json.dumps(PROVIDERS),
            "PIPELINE": stages.pipeline(self.setup.order),
            "PYTHONPATH": str(releases.earlier() if self.setup.is_mixed and number == 0 else root),
            clock.VARIABLE: str(self.clock_path),
        }
        if self.setup.has_spool:
            environ["RABBITMQ_SPOOL"] = str(self.spools()[number])
        if self.setup.allows:
            policies = self.directory / "gateway.toml"
            policies.write_text(_ALLOW, encoding="utf-8")
            environ["GATEWAY_CONFIG"] = str(policies)
        return environ

    def start(self) -> None:
        """Start the gateways, and return when they are ready."""
        with self.direct_redis() as client:
            client.flushall()
        with ThreadPoolExecutor(GATEWAYS) as pool:
            list(pool.map(_start, self.gateways))

    def collect(self) -> Run:
        """Everything that there is to judge, once it is all quiet; gives counters time to be put right."""
        self.take_queue()
        deadline = time.monotonic() + _SETTLED_QUOTA_SECONDS
        while any(quota_difference(self._run()).values()) and time.monotonic() < deadline:
            time.sleep(0.5)
        # What the broker stored late is on the queue by now.
        self.take_queue()
        if not self.setup.is_embedded:
            dead = asyncio.run(consume(self.servers.broker.url, f"{self.queue}.dead"))
            if dead:
                self.violations.append(f"{len(dead)} messages were dead-lettered")
        return self._run()

    def _run(self) -> Run:
        return Run(
            self.driver.messages,
            self.marks,
            self.taken,
            self.state.used(),
            self.setup,
            self.shifts,
            private.failed_steps(self.gateways),
        )

    def search_for_private_data(self) -> None:
        """Look for what may stand nowhere but in the envelope; and for bugs that were logged."""
        self._search_metrics()
        for gateway in self.gateways:
            self.violations += private.logged(gateway)
        for file in self.servers.store.directory.rglob("*.aof"):
            self.violations += private.found_in(file.read_bytes(), "Redis")
        for answer in self.state.stored_answers(self.driver.messages):
            self.violations += private.found_in(answer, f"a stored answer: {answer[:200]!r}")

    def _search_metrics(self) -> None:
        for gateway in self.gateways:
            # One that has not recovered is complained of elsewhere.
            with contextlib.suppress(httpx.TransportError):
                self.violations += private.found_in(gateway.http.get("/metrics").content, "the metrics")

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


def _start(gateway: Gateway, *, ready: bool = True) -> None:
    """Start it, and wait until it is there: on a machine with much else to do longer than other tests would."""
    try:
        gateway.start(ready=ready)
    except AssertionError:
        assert gateway.process is not None
        if gateway.process.poll() is not None:
            raise
        gateway.wait("/readyz" if ready else "/healthz", seconds=_START_SECONDS)


def _is_ready(gateway: Gateway) -> bool:
    try:
        return httpx.get(f"{gateway.url}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
