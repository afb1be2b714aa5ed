"""All faults, by name and dealt into rounds."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.faults.injections import broker, clients, gateway, legs, operator, store
from tests.faults.injections.deck import FAULTS, KINDS
from tests.faults.setups import SETUPS, Setup
from tests.faults.world import Fault

__all__ = ["FAULTS", "KINDS", "deck", "hand", "hands", "named"]

_MODULES = (gateway, store, broker, legs, clients, operator)
"""Imported for the faults that they add."""

_A_HAND = 6


def named(name: str) -> Fault:
    """The fault of this name. Raises LookupError, which lists all of them."""
    for one in FAULTS:
        if one.name == name:
            return one
    raise LookupError(
        f"there is no fault '{name}'; there are: {', '.join(sorted(one.name for one in FAULTS))}"
    )


def deck(setup: Setup) -> list[Fault]:
    """The faults that can happen in this setup, with one worker or with several."""
    either = [replace(setup, workers=workers) for workers in (1, 2)]
    return sorted((fault for fault in FAULTS if any(map(fault.fits, either))), key=lambda fault: fault.name)


def hands(setup: Setup) -> int:
    """So many rounds of this setup go through its deck, about six faults in each."""
    return -(-len(deck(setup)) // _A_HAND)


def hand(setup: Setup, seed: int) -> list[Fault]:
    """The faults of the round with this seed; as many rounds of a setup as it has hands make up its deck, shuffled."""
    turn = seed // len(SETUPS)
    shuffled, size = deck(setup), hands(setup)
    random.Random(turn // size).shuffle(shuffled)
    return [fault for fault in shuffled[turn % size :: size] if fault.fits(setup)]
