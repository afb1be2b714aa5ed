"""Faults under load: one of each kind every day, and every one of them, in every setup, where there is time.

``python -m tests.faults --setup SETUP --kind KIND --seed 1`` does the same without pytest.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.faults import record
from tests.faults.__main__ import say
from tests.faults.episode import play
from tests.faults.faults import FAULTS, KINDS, deck, hand, hands, named
from tests.faults.releases import NotInHistory
from tests.faults.servers import Servers
from tests.faults.setups import LEGAL_ORDERS, PLAIN, SETUPS, Setup, setup_of
from tests.faults.world import Fault

SEED = 1
SHORT_DECK = ("gateway-killed-at-confirm", "redis-killed", "leg-to-rabbitmq-cut", "clients-that-hang-up")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


def test_one_fault_of_each_kind_breaks_no_promise(servers: Servers) -> None:
    """A short episode, for every day."""
    keeps_its_promises(servers, PLAIN, [named(name) for name in SHORT_DECK])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_promise_is_kept(servers: Servers, kind: str) -> None:
    """Every fault once, those of a kind in one episode; that of a worker needs several."""
    faults = [fault for fault in deck(PLAIN) if fault.kind == kind]
    keeps_its_promises(servers, PLAIN, [fault for fault in faults if fault.fits(PLAIN)])


@pytest.mark.long
@pytest.mark.parametrize("setup", SETUPS[1:], ids=lambda setup: setup.name)
def test_every_promise_is_kept_however_it_is_run(servers: Servers, setup: Setup) -> None:
    """A hand of faults in each setup."""
    seed = SETUPS.index(setup) + len(SETUPS)
    keeps_its_promises(servers, setup_of(seed), hand(setup_of(seed), seed))


def keeps_its_promises(servers: Servers, setup: Setup, faults: Sequence[Fault]) -> None:
    try:
        episode = play(servers, setup, SEED, faults, say)
    except NotInHistory as missing:
        pytest.skip(str(missing))
    for text in record.told(record.line_of(episode)):
        say(text)
    assert not episode.verdict.violations, f"logs are kept in {episode.kept}"


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_rounds_in_a_row_go_through_all_faults(setup: Setup) -> None:
    """Of those that need one worker, or several, whenever there are as many."""
    position = SETUPS.index(setup)
    dealt = set()
    for turn in range(8 * hands(setup)):
        seed = turn * len(SETUPS) + position
        dealt |= {fault.name for fault in hand(setup_of(seed), seed)}
    assert dealt >= {fault.name for fault in deck(setup) if fault.fits(setup_of(position))}


def test_every_fault_fits_somewhere() -> None:
    assert {fault.name for setup in SETUPS for fault in deck(setup)} == {fault.name for fault in FAULTS}


def test_rounds_in_a_row_go_through_all_orders() -> None:
    seeds = range(len(SETUPS) * len(LEGAL_ORDERS))
    assert {setup_of(seed).order for seed in seeds} == set(LEGAL_ORDERS)
