"""Faults under load: one of each kind every day, and every one of them where there is time.

``python -m tests.faults --kind KIND --seed 1`` does the same without pytest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.faults.__main__ import HANDS, hand, report, say
from tests.faults.faults import FAULTS, KINDS, named
from tests.faults.world import Fault, Servers, play
from tests.support.servers import RabbitServer, RedisServer

SEED = 1
SHORT_DECK = ("gateway-killed-at-confirm", "redis-killed", "leg-to-rabbitmq-cut", "clients-that-hang-up")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A Redis and a RabbitMQ that these tests may break."""
    with RedisServer() as store, RabbitServer() as broker, Servers(store, broker) as servers:
        yield servers


def test_one_fault_of_each_kind_breaks_no_promise(servers: Servers) -> None:
    """A short episode, for every day."""
    keeps_its_promises(servers, [named(name) for name in SHORT_DECK])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_promise_is_kept(servers: Servers, kind: str) -> None:
    """Every fault once, those of a kind in one episode."""
    keeps_its_promises(servers, [fault for fault in FAULTS if fault.kind == kind])


def keeps_its_promises(servers: Servers, faults: Sequence[Fault]) -> None:
    episode = play(servers, SEED, faults, say)
    report(episode)
    assert not episode.verdict.violations, f"logs are kept in {episode.kept}"


def test_rounds_in_a_row_go_through_all_faults() -> None:
    for first in (0, 5 * HANDS):
        dealt = [fault.name for number in range(HANDS) for fault in hand(first + number)]
        assert sorted(dealt) == sorted(fault.name for fault in FAULTS)
