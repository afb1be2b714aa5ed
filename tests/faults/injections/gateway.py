"""Gateways are killed, restarted and paused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.faults import processes, stages
from tests.faults.injections.deck import FAULTS, GATEWAY, fault
from tests.faults.ledger import Attempt, Kind, Message
from tests.faults.load import PATIENCE_SECONDS
from tests.faults.world import Fault, World

LEASE_SECONDS = 15.0
_DEATH_SECONDS = 20.0
_START_SECONDS = 30.0
_PATIENCE_WITH_THE_PAUSED_SECONDS = 2.0


def kill_at(
    world: World, point: str, victim: int, wanted: Callable[[Message], bool] = lambda message: True
) -> None:
    """Have a request of a message that is wanted kill its process at this point, and the gateway serve again."""
    with world.marked(Kind.DIED, victim):
        before = processes.workers_of(world.gateways[victim])
        deadline = time.monotonic() + _DEATH_SECONDS
        while not any(map(processes.is_gone, before)) and time.monotonic() < deadline:
            # Again and again: a request that is turned away before it gets there ends nothing.
            world.driver.crash(point, victim, wanted=wanted)
            time.sleep(0.1)
        world.driver.crash_no_more()
        world.check(any(map(processes.is_gone, before)), f"nothing was killed at '{point}'")
        world.must_meet("no request lost its answer", _unanswered_at(victim))
        world.sleep(0.1, 0.5)
        _back(world, victim, before)


def _killed_at(point: str) -> Fault:
    def inject(world: World) -> None:
        kill_at(world, point, world.random.randrange(len(world.gateways)))

    return Fault(GATEWAY, f"gateway-killed-at-{point}", inject)


FAULTS += [_killed_at(point) for point in stages.POINTS]


@fault(GATEWAY)
def gateway_killed(world: World) -> None:
    victim = world.random.randrange(len(world.gateways))
    with world.marked(Kind.DIED, victim):
        _kill(world, victim)
        world.sleep(0.2, 0.6)
        world.restart(victim)


@fault(GATEWAY)
def gateways_killed_together(world: World) -> None:
    with world.marked(Kind.DIED):
        for victim in range(len(world.gateways)):
            _kill(world, victim)
        world.sleep(0.1, 0.5)
        for victim in range(len(world.gateways)):
            world.restart(victim)


@fault(GATEWAY, fits=lambda setup: setup.workers > 1)
def worker_killed(world: World) -> None:
    """The supervisor puts another in its place, while the other workers serve."""
    victim = world.random.randrange(len(world.gateways))
    with world.marked(Kind.DIED, victim):
        before = processes.workers_of(world.gateways[victim])
        unlucky = world.random.choice(before)
        os.kill(unlucky, signal.SIGKILL)
        world.check(processes.wait_until_gone([unlucky]), "the worker lives on")
        _back(world, victim, before)


@fault(GATEWAY)
def gateway_restarted(world: World) -> None:
    victim = world.random.randrange(len(world.gateways))
    with world.marked(Kind.STOPPED, victim):
        before = processes.all_of(world.gateways[victim])
        code = world.gateways[victim].stop()
        if code != 0:
            world.violations.append(f"SIGTERM ended the gateway with exit code {code}")
        world.check(processes.wait_until_gone(before), "a process of the gateway lives on")
        world.restart(victim)


def _kill(world: World, victim: int) -> None:
    gateway = world.gateways[victim]
    before = processes.all_of(gateway)
    gateway.kill()
    world.check(processes.wait_until_gone(before), "a process of the gateway lives on")
    world.must_meet("no request was without an answer", _unanswered_at(victim))


def _back(world: World, victim: int, before: list[int]) -> None:
    """Have it serve again, with as many workers as before: a supervisor sees to that by itself."""
    gateway = world.gateways[victim]
    assert gateway.process is not None
    if gateway.process.poll() is not None:
        world.restart(victim)
        return
    world.restarts.append(time.monotonic())
    deadline = time.monotonic() + _START_SECONDS
    while len(set(processes.workers_of(gateway)) - {gateway.process.pid}) < len(before) or any(
        map(processes.is_gone, processes.workers_of(gateway))
    ):
        if time.monotonic() > deadline:
            world.violations.append("a worker that was killed was not replaced")
            return
        time.sleep(0.1)


def _paused(world: World, seconds: float) -> None:
    victim = world.random.randrange(len(world.gateways))
    found = processes.all_of(world.gateways[victim])
    with world.marked(Kind.DIED, victim):
        world.check(processes.pause(found), "a process of the gateway runs on")
        try:
            # Its requests are given up soon, as a load balancer would, and sent to the other one.
            world.driver.patience_seconds[victim] = _PATIENCE_WITH_THE_PAUSED_SECONDS
            time.sleep(0.2)
            world.driver.avoided = {victim}
            time.sleep(seconds)
        finally:
            processes.resume(found)
            world.driver.patience_seconds[victim] = PATIENCE_SECONDS
            world.driver.avoided = set()
    world.must_meet(
        "no request had to wait for it",
        lambda attempt: attempt.gateway == victim and attempt.ended - attempt.began > min(0.5, seconds),
    )


@fault(GATEWAY)
def gateway_paused(world: World) -> None:
    _paused(world, world.random.uniform(1, 4))


@fault(GATEWAY)
def gateway_paused_past_its_lease(world: World) -> None:
    _paused(world, LEASE_SECONDS + 1)


def _paused_at(point: str) -> Fault:
    """A request stops its gateway at this point, past its lease; another takes up its claim; then it goes on."""

    def inject(world: World) -> None:
        victim = world.random.randrange(len(world.gateways))
        found = processes.workers_of(world.gateways[victim])
        driver = world.driver
        driver.patience_seconds[victim] = _PATIENCE_WITH_THE_PAUSED_SECONDS
        with world.marked(Kind.DIED, victim):
            deadline = time.monotonic() + _DEATH_SECONDS
            while not any(map(processes.is_paused, found)) and time.monotonic() < deadline:
                driver.crash(point, victim, stages.PAUSE, lambda message: message.key is not None)
                time.sleep(0.1)
            driver.crash_no_more()
            driver.avoided = {victim}
            try:
                world.check(any(map(processes.is_paused, found)), f"nothing was paused at '{point}'")
                time.sleep(LEASE_SECONDS + 2)
            finally:
                processes.resume(found)
                driver.patience_seconds[victim] = PATIENCE_SECONDS
                driver.avoided = set()
        assert driver.crashed is not None
        # What the late request has done, if anything, a retry brings to light.
        time.sleep(0.5)
        driver.do(driver.ask_again(driver.crashed))
        world.must_meet("no request had to wait for it", _unanswered_at(victim))

    name = f"gateway-paused-at-{point}-past-its-lease"
    # A supervisor replaces a worker that does not answer; the release before this one has no such stages.
    return Fault(GATEWAY, name, inject, lambda setup: setup.workers == 1 and not setup.is_mixed)


FAULTS += [_paused_at(point) for point in (stages.BEGIN, stages.ARM, stages.CONFIRM)]


def _unanswered_at(victim: int) -> Callable[[Attempt], bool]:
    def meets(attempt: Attempt) -> bool:
        return attempt.gateway == victim and attempt.answer is None

    return meets
