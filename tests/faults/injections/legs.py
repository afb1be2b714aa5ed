"""The ways to Redis and RabbitMQ stall, drip, are cut, end by halves and refuse."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from tests.faults.injections.deck import BROKER, FAULTS, STORE, has_servers
from tests.faults.ledger import Kind
from tests.faults.proxy import Direction, Proxy
from tests.faults.world import Fault, World
from tests.support.servers import accepts

DIRECTIONS = (Direction.TO_SERVER, Direction.TO_CLIENT, Direction.BOTH)


def _stalled(world: World, leg: Proxy) -> None:
    before = leg.held
    leg.stall(world.random.choice(DIRECTIONS))
    time.sleep(world.random.choice((0.2, 1.5, 6.5)))
    leg.heal()
    world.check(leg.held > before, "nothing was held up")


def _dripped(world: World, leg: Proxy) -> None:
    before = leg.dripped
    leg.drip(world.random.choice((50, 500, 5000)), world.random.choice(DIRECTIONS))
    world.sleep(1.0, 4.0)
    leg.heal()
    world.check(leg.dripped > before, "nothing dripped")


def _cut(world: World, leg: Proxy) -> None:
    cut = 0
    for _ in range(world.random.randrange(1, 4)):
        cut += leg.cut()
        world.sleep(0.0, 0.5)
    world.check(cut, "no connection was cut")


def _half_closed(world: World, leg: Proxy) -> None:
    world.check(leg.half_close(world.random.choice(DIRECTIONS[:2])), "there was no connection")


def _refused(world: World, leg: Proxy) -> None:
    leg.refuse()
    cut = leg.cut()
    with contextlib.suppress(OSError):
        world.check(cut and not accepts(leg.port), "a connection was accepted")
    world.sleep(0.3, 2.0)
    leg.heal()


def _on_both_legs(name: str, breaks: Callable[[World, Proxy], None]) -> list[Fault]:
    def on_store(world: World) -> None:
        breaks(world, world.servers.store_leg)

    def on_broker(world: World) -> None:
        with world.marked(Kind.BROKER):
            breaks(world, world.servers.broker_leg)

    return [
        Fault(STORE, f"leg-to-redis-{name}", on_store, has_servers),
        Fault(BROKER, f"leg-to-rabbitmq-{name}", on_broker, has_servers),
    ]


FAULTS += _on_both_legs("stalled", _stalled)
FAULTS += _on_both_legs("dripping", _dripped)
FAULTS += _on_both_legs("cut", _cut)
FAULTS += _on_both_legs("half-closed", _half_closed)
FAULTS += _on_both_legs("refused", _refused)
