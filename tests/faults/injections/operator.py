"""Operators change the configuration and the clock while senders retry."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import httpx

from tests.faults import stages
from tests.faults.injections import gateway
from tests.faults.injections.deck import OPERATOR, fault
from tests.faults.ledger import OF_A_PROVIDER, Kind, Message
from tests.faults.load import CLIENTS, PROVIDERS, ROTATED
from tests.faults.world import World

# Always another day but for the hour around midnight, and never so far that an answer is older than its time to live.
_AHEAD_SECONDS = 23 * 3600


def _configure(world: World, variable: str, document: dict[str, Any]) -> None:
    """Have gateways that start from now on read this."""
    for running in world.gateways:
        running.environ[variable] = json.dumps(document)


def _roll_out(world: World, *numbers: int) -> None:
    """Restart gateways one after the other; a recovery counts from the last roll-out."""
    world.restarts.clear()
    for number in numbers:
        with world.marked(Kind.STOPPED, number):
            code = world.gateways[number].stop()
            if code != 0:
                world.violations.append(f"SIGTERM ended the gateway with exit code {code}")
            world.restart(number)


@fault(OPERATOR, fits=lambda setup: not setup.is_mixed)
def provider_switched_off(world: World) -> None:
    """Retries meet a gate that refuses what it let through before; and the provider comes back.

    One of them is of a message that is on the queue already: its gateway dies with the message confirmed, and is
    started again with the provider off, as the other one was before.
    """
    providers = deepcopy(PROVIDERS)
    providers["alpha"]["is_active"] = False
    with world.marked(Kind.SWITCHED_OFF):
        _configure(world, "PROVIDERS_CONFIG", providers)
        victim = world.random.randrange(len(world.gateways))
        _roll_out(world, 1 - victim)
        gateway.kill_at(world, stages.CONFIRM, victim, _believes_a_refusal_of_alpha)
        if world.setup.workers > 1:
            # Its supervisor has put a worker with the old configuration there.
            _roll_out(world, victim)
        # A retry has to wait for the lease of the request that was killed.
        time.sleep(gateway.LEASE_SECONDS + 1)
        _configure(world, "PROVIDERS_CONFIG", PROVIDERS)
        _roll_out(world, 0, 1)
    world.must_meet("no request was refused for it", lambda attempt: attempt.code in OF_A_PROVIDER)


def _believes_a_refusal_of_alpha(message: Message) -> bool:
    return message.key is not None and message.gives_up and b'["a"]' in message.body


@fault(OPERATOR)
def quota_lowered(world: World) -> None:
    """It holds at once: what is over it already gets nothing more."""
    clients = deepcopy(CLIENTS)
    for entry in clients.values():
        if entry["name"] == ROTATED:
            entry["daily_quota"] = 1
    with world.marked(Kind.LOWERED):
        _configure(world, "CLIENT_CONFIG", clients)
        _roll_out(world, 0, 1)
        began = time.monotonic()
        world.sleep(1.0, 2.0)
        ended = time.monotonic()
        _configure(world, "CLIENT_CONFIG", CLIENTS)
        _roll_out(world, 0, 1)
    # Resumed claims are charged already, and a store that is passed over counts nothing.
    fresh = [
        message
        for message in world.driver.messages
        if message.client == ROTATED and message.attempts and message.attempts[0].began > began
    ]
    accepted = [m for m in fresh if m.is_accepted and all(a.ended < ended for a in m.attempts)]
    if len(accepted) > 1:
        world.violations.append(f"{len(accepted)} messages accepted of a quota that was lowered to 1")
    world.must_meet("no request was over it", lambda attempt: attempt.code == "TOO_MANY_REQUESTS")


@fault(OPERATOR, fits=lambda setup: not setup.is_mixed and not setup.has_spool)
def clock_set_forward(world: World) -> None:
    _move(world, _AHEAD_SECONDS)


@fault(OPERATOR, fits=lambda setup: not setup.is_mixed and not setup.has_spool)
def clock_set_back(world: World) -> None:
    _move(world, -_AHEAD_SECONDS)


def _move(world: World, seconds: int) -> None:
    world.move_clock(seconds)
    for running in world.gateways:
        told = datetime.fromisoformat(httpx.get(f"{running.url}/nothing").json()["timestamp"])
        off = told - datetime.now(told.tzinfo) - timedelta(seconds=seconds)
        world.check(abs(off) < timedelta(seconds=60), "a gateway's clock has not moved")
    world.sleep(1.0, 3.0)
    world.move_clock(0)
