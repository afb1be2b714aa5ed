"""The setups that rounds go through: how many processes; which store, outbox, order and policy; which release."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import Any

from pipeline.order import DEFAULT_ORDER, mistakes

LEGAL_ORDERS = tuple(order for order in itertools.permutations(DEFAULT_ORDER) if not mistakes(order))
"""Every order that the gateway serves, the default one included."""


@dataclass(frozen=True)
class Setup:
    """How the gateways of a round are run.

    ``workers`` are the processes of each gateway. With ``is_embedded`` both gateways keep store and outbox in one file;
    with ``has_spool`` each has a spool of its own. With ``allows`` the stages have ``on_store_error = "allow"``. With
    ``is_mixed`` the first gateway is of the release before this one.
    """

    name: str
    workers: int = 1
    is_embedded: bool = False
    has_spool: bool = False
    allows: bool = False
    is_mixed: bool = False
    order: tuple[str, ...] = DEFAULT_ORDER

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        order = f", order {', '.join(self.order)}" if self.order != DEFAULT_ORDER else ""
        return f"{self.name}{workers}{order}"


PLAIN = Setup("plain")

SETUPS = (
    PLAIN,
    Setup("workers", workers=2),
    Setup("spool", has_spool=True),
    Setup("embedded", is_embedded=True),
    Setup("allow", allows=True),
    Setup("order"),
    Setup("mixed", is_mixed=True),
)
"""Rounds in a row go through these by turns."""

_OTHER_ORDERS = [order for order in LEGAL_ORDERS if order != DEFAULT_ORDER]


def setup_of(seed: int, name: str | None = None) -> Setup:
    """The setup of the round with this seed, or the one of this name as that round would vary it.

    The orders come by turns; a spool and an embedded file are shared by two workers about every other time.
    """
    turn, position = divmod(seed, len(SETUPS))
    found = named(name) if name is not None else SETUPS[position]
    changed: dict[str, Any] = {}
    if found.name == "order":
        changed["order"] = _OTHER_ORDERS[turn % len(_OTHER_ORDERS)]
    if found.has_spool or found.is_embedded:
        # Not by turns: a turn that deals the same fault would always have as many.
        changed["workers"] = random.Random(seed).choice((1, 2))
    return replace(found, **changed)


def named(name: str) -> Setup:
    """The setup of this name. Raises LookupError, which lists all of them."""
    for setup in SETUPS:
        if setup.name == name:
            return setup
    raise LookupError(f"there is no setup '{name}'; there are: {', '.join(setup.name for setup in SETUPS)}")
