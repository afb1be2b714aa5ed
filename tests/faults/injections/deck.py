"""Every fault there is; the modules beside this one add theirs."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.setups import Setup
from tests.faults.world import Fault, World

GATEWAY, STORE, BROKER, CLIENTS, OPERATOR = KINDS = ("gateway", "store", "broker", "clients", "operator")

FAULTS: list[Fault] = []


def has_servers(setup: Setup) -> bool:
    """Whether Redis and RabbitMQ are there to be broken."""
    return not setup.is_embedded


def fault(
    kind: str, fits: Callable[[Setup], bool] = lambda setup: True
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Add it under the name of the function."""

    def add(inject: Callable[[World], None]) -> Callable[[World], None]:
        FAULTS.append(Fault(kind, inject.__name__.replace("_", "-"), inject, fits))
        return inject

    return add
