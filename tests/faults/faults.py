"""Every fault: each breaks one thing under load, mends it, and notes what that may excuse."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiormq

from tests.faults import stages
from tests.faults.driver import KEY_TAIL, METERED, PATIENCE_SECONDS, Driver
from tests.faults.ledger import Attempt, Kind, Mark
from tests.faults.oracle import STATUS
from tests.faults.proxy import Direction, Proxy
from tests.faults.world import Fault, World

LEASE_SECONDS = 15.0
_DEATH_SECONDS = 20.0
# What a Redis that syncs every second may lose; nothing, when only its process dies and the machine lives on.
_UNSYNCED_SECONDS = 2.0
_GIB = 1024**3
_MORE_MEMORY_KIB = 64 * 1024
_ONE_KEY_TIMES = 500

DIRECTIONS = (Direction.TO_SERVER, Direction.TO_CLIENT, Direction.BOTH)

GATEWAY, STORE, BROKER, CLIENTS = KINDS = ("gateway", "store", "broker", "clients")

FAULTS: list[Fault] = []


def fault(kind: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Add it under the name of the function."""

    def add(inject: Callable[[World], None]) -> Callable[[World], None]:
        FAULTS.append(Fault(kind, inject.__name__.replace("_", "-"), inject))
        return inject

    return add


# The gateway.


def _killed_at(point: str) -> Fault:
    def inject(world: World) -> None:
        victim = world.random.randrange(len(world.gateways))
        gateway = world.gateways[victim]
        assert gateway.process is not None
        with world.marked(Kind.DIED):
            deadline = time.monotonic() + _DEATH_SECONDS
            while gateway.process.poll() is None and time.monotonic() < deadline:
                # Again and again: a request that is turned away before it gets there ends nothing.
                world.driver.crash(point, victim)
                time.sleep(0.1)
            world.driver.crash_no_more()
            if gateway.process.poll() != -signal.SIGKILL:
                world.violations.append(f"the gateway was not killed at '{point}'")
            world.sleep(0.1, 0.5)
            world.restart(victim)

    return Fault(GATEWAY, f"gateway-killed-at-{point}", inject)


FAULTS += [_killed_at(point) for point in stages.POINTS]


@fault(GATEWAY)
def gateway_killed(world: World) -> None:
    victim = world.random.randrange(len(world.gateways))
    with world.marked(Kind.DIED):
        world.gateways[victim].kill()
        world.sleep(0.1, 0.5)
        world.restart(victim)


@fault(GATEWAY)
def gateways_killed_together(world: World) -> None:
    with world.marked(Kind.DIED):
        for gateway in world.gateways:
            gateway.kill()
        world.sleep(0.1, 0.5)
        for victim in range(len(world.gateways)):
            world.restart(victim)


@fault(GATEWAY)
def gateway_restarted(world: World) -> None:
    victim = world.random.randrange(len(world.gateways))
    with world.marked(Kind.STOPPED):
        code = world.gateways[victim].stop()
        if code != 0:
            world.violations.append(f"SIGTERM ended the gateway with exit code {code}")
        world.restart(victim)


def _paused(world: World, seconds: float) -> None:
    victim = world.random.randrange(len(world.gateways))
    process = world.gateways[victim].process
    assert process is not None
    with world.marked(Kind.DIED):
        process.send_signal(signal.SIGSTOP)
        try:
            # Its requests are given up soon, as a load balancer would, and sent to the other one.
            world.driver.patience_seconds = 2.0
            time.sleep(0.2)
            world.driver.avoided = {victim}
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
            world.driver.patience_seconds = PATIENCE_SECONDS
            world.driver.avoided = set()


@fault(GATEWAY)
def gateway_paused(world: World) -> None:
    _paused(world, world.random.uniform(1, 4))


@fault(GATEWAY)
def gateway_paused_past_its_lease(world: World) -> None:
    _paused(world, LEASE_SECONDS + 1)


# The store.


@fault(STORE)
def redis_killed(world: World) -> None:
    server = world.servers.store
    killed = time.monotonic()
    server.kill()
    world.marks.append(Mark(Kind.ROLLED_BACK, killed - _UNSYNCED_SECONDS, time.monotonic()))
    world.sleep(0.2, 1.5)
    server.start()


@fault(STORE)
def redis_killed_that_syncs_always(world: World) -> None:
    """What it has answered it knows again: nothing is excused."""
    with world.direct_redis() as client:
        client.config_set("appendfsync", "always")
    world.servers.store.kill()
    world.sleep(0.2, 1.5)
    world.servers.store.start()


@fault(STORE)
def redis_restarted(world: World) -> None:
    world.servers.store.stop()
    world.sleep(0.2, 1.0)
    world.servers.store.start()


@fault(STORE)
def redis_paused(world: World) -> None:
    with world.servers.store.paused():
        world.sleep(0.3, 4.0)


@fault(STORE)
def redis_flushed(world: World) -> None:
    with world.direct_redis() as client:
        if world.random.random() < 0.5:
            client.script_flush()
        with world.marked(Kind.FLUSHED):
            client.flushall()


# The broker.


@fault(BROKER)
def rabbitmq_killed(world: World) -> None:
    # Another fault may have had the queue declared anew just now.
    world.servers.broker.write_down_queues()
    with world.marked(Kind.BROKER):
        world.servers.broker.kill()
        world.servers.broker.start()


@fault(BROKER)
def rabbitmq_restarted(world: World) -> None:
    with world.marked(Kind.BROKER):
        world.servers.broker.stop()
        world.servers.broker.start()


@fault(BROKER)
def rabbitmq_paused(world: World) -> None:
    # Longer than a confirm is waited for, every other time.
    with world.marked(Kind.BROKER), world.servers.broker.paused():
        time.sleep(world.random.choice((1.0, 7.0)))


@fault(BROKER)
def queue_full(world: World) -> None:
    """It fills up several times, each time until Server B comes and takes everything."""
    with world.marked(Kind.BROKER):
        _limit_queue(world, 20)
        for _ in range(3):
            world.sleep(0.2, 0.8)
            world.take_queue()
        world.driver.hold()
        world.take_queue()
        _lift_limit(world)
        world.driver.release()


@fault(BROKER)
def queue_full_until_its_limit_is_lifted(world: World) -> None:
    """Nobody takes anything: an operator lifts the limit."""
    with world.marked(Kind.BROKER):
        _limit_queue(world, 1)
        world.sleep(0.3, 1.0)
        _lift_limit(world)


def _limit_queue(world: World, most: int) -> None:
    policy = f'{{"max-length": {most}}}'
    world.servers.broker.ctl("set_policy", world.queue, f"^{world.queue}$", policy, "--apply-to", "queues")


def _lift_limit(world: World) -> None:
    world.servers.broker.ctl("clear_policy", world.queue)


@fault(BROKER)
def queue_deleted(world: World) -> None:
    """Server B has taken everything before, and no request is under way: what is accepted later must be there."""

    async def delete(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.queue_delete(world.queue)

    world.driver.hold()
    world.take_queue()
    world.on_broker(delete)
    world.driver.release()


@fault(BROKER)
def queue_unbound(world: World) -> None:
    async def unbind(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.queue_unbind(world.queue, world.queue, world.queue)

    with world.marked(Kind.BROKER):
        world.on_broker(unbind)


@fault(BROKER)
def exchange_deleted(world: World) -> None:
    async def delete(channel: aiormq.abc.AbstractChannel) -> None:
        await channel.exchange_delete(world.queue)

    with world.marked(Kind.BROKER):
        world.on_broker(delete)
        time.sleep(0.5)


@fault(BROKER)
def broker_alarm(world: World) -> None:
    ctl = world.servers.broker.ctl
    with world.marked(Kind.BROKER):
        ctl("set_vm_memory_high_watermark", "0.00001")
        time.sleep(world.random.choice((0.5, 6.0)))
        ctl("set_vm_memory_high_watermark", "0.4")


@fault(BROKER)
def connections_closed_by_the_broker(world: World) -> None:
    with world.marked(Kind.BROKER):
        world.servers.broker.ctl("close_all_connections", "an operator's reason")


# The way to them.


def _stalled(world: World, leg: Proxy) -> None:
    leg.stall(world.random.choice(DIRECTIONS))
    time.sleep(world.random.choice((0.2, 1.5, 6.5)))
    leg.heal()


def _dripped(world: World, leg: Proxy) -> None:
    leg.drip(world.random.choice((50, 500, 5000)), world.random.choice(DIRECTIONS))
    world.sleep(1.0, 4.0)
    leg.heal()


def _cut(world: World, leg: Proxy) -> None:
    for _ in range(world.random.randrange(1, 4)):
        leg.cut()
        world.sleep(0.0, 0.5)


def _half_closed(world: World, leg: Proxy) -> None:
    leg.half_close(world.random.choice(DIRECTIONS[:2]))


def _refused(world: World, leg: Proxy) -> None:
    leg.refuse()
    leg.cut()
    world.sleep(0.3, 2.0)
    leg.heal()


def _on_both_legs(name: str, breaks: Callable[[World, Proxy], None]) -> list[Fault]:
    def on_store(world: World) -> None:
        breaks(world, world.servers.store_leg)

    def on_broker(world: World) -> None:
        with world.marked(Kind.BROKER):
            breaks(world, world.servers.broker_leg)

    return [
        Fault(STORE, f"leg-to-redis-{name}", on_store),
        Fault(BROKER, f"leg-to-rabbitmq-{name}", on_broker),
    ]


FAULTS += _on_both_legs("stalled", _stalled)
FAULTS += _on_both_legs("dripping", _dripped)
FAULTS += _on_both_legs("cut", _cut)
FAULTS += _on_both_legs("half-closed", _half_closed)
FAULTS += _on_both_legs("refused", _refused)


# The clients.


@fault(CLIENTS)
def clients_that_hang_up(world: World) -> None:
    world.driver.do(_hang_up(world.driver, world.random))


async def _hang_up(driver: Driver, choose: random.Random) -> None:
    for _ in range(40):
        message = driver.compose(valid=True)
        sender = choose.choice(driver.senders)
        headers = driver.headers_of(message)
        attempt = await sender.send_and_leave(headers, message.body, whole=choose.random() < 0.6)
        driver.note(message, attempt)
        driver.settle_later(message)
        await asyncio.sleep(choose.uniform(0, 0.05))


@fault(CLIENTS)
def clients_that_drip(world: World) -> None:
    attempts = world.driver.do(_drip(world.driver))
    world.violations += [
        f"a body that dripped was answered {attempt.code or attempt.end}"
        for attempt in attempts
        if attempt.code != "REQUEST_TIMEOUT"
    ]


async def _drip(driver: Driver) -> list[Attempt]:
    messages = [driver.compose(keyed=keyed, valid=True) for keyed in (True, False) for _ in range(5)]
    attempts = await asyncio.gather(
        *(
            driver.senders[position % len(driver.senders)].send_slowly(
                driver.headers_of(message), message.body, PATIENCE_SECONDS
            )
            for position, message in enumerate(messages)
        )
    )
    for message, attempt in zip(messages, attempts, strict=True):
        driver.note(message, attempt)
        driver.settle_later(message)
    return attempts


@fault(CLIENTS)
def clients_that_send_too_much(world: World) -> None:
    headers = {"API-Key": METERED + KEY_TAIL}
    for sender in world.driver.senders:
        process = world.gateways[sender.gateway].process
        assert process is not None
        before = _memory_kib(process.pid)
        for chunked in (True, False):
            answer, written = world.driver.do(sender.flood(headers, _GIB, chunked=chunked))
            if answer is not None and answer.status != STATUS["PAYLOAD_TOO_LARGE"]:
                world.violations.append(f"a body of 1 GiB was answered {answer.status} {answer.code}")
            if written == _GIB:
                world.violations.append("a body of 1 GiB was read to its end")
        grown = _memory_kib(process.pid) - before
        if grown > _MORE_MEMORY_KIB:
            world.violations.append(f"a body of 1 GiB cost {grown} KiB of memory")


def _memory_kib(pid: int) -> int:
    """Resident memory; 0 where there is no /proc to tell it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@fault(CLIENTS)
def one_key_500_times(world: World) -> None:
    async def send() -> None:
        message = world.driver.compose(keyed=True, valid=True)
        await world.driver.send_in_parallel(message, _ONE_KEY_TIMES)
        times = sum(attempt.is_accepted and attempt.may_have_published for attempt in message.attempts)
        if times > 1:
            world.violations.append(f"one key was accepted {times} times, and not replayed")

    world.driver.do(send())


def named(name: str) -> Fault:
    """The fault of this name. Raises LookupError, which lists all of them."""
    for one in FAULTS:
        if one.name == name:
            return one
    raise LookupError(
        f"there is no fault '{name}'; there are: {', '.join(sorted(one.name for one in FAULTS))}"
    )
