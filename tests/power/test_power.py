"""Every 202 outlives a power cut at any moment; and who syncs less than the gateway is caught."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.power.__main__ import SUBJECTS, is_broken, round_of
from tests.power.episode import play
from tests.power.machine import Machine, machine
from tests.power.subjects import Embedded, Spool
from tests.support.servers import RabbitServer, installed


def test_what_an_embedded_gateway_accepted_outlives_the_cut(tmp_path: Path) -> None:
    """In a folder that it has just made itself, on a disk that keeps only what was synced; charges too."""
    with machine(tmp_path, Embedded.room_mib) as computer:
        figures = play(Embedded, computer, tmp_path, seed=1, cuts=2, manner="nothing")
    assert not is_broken(figures), figures
    assert figures.charges_missing == 0
    assert figures.accepted > 0


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_gateway_that_syncs_less_is_caught(tmp_path: Path, synchronous: str) -> None:
    """On a large disk, where no checkpoint comes that soon: it syncs what was written until then."""

    def make(computer: Machine, directory: Path, quota: int) -> Embedded:
        subject = Embedded(computer, directory, quota)
        subject.broken_by(synchronous)
        return subject

    with machine(tmp_path) as computer:
        figures = play(make, computer, tmp_path, seed=1, cuts=1, manner="nothing")
    assert figures.lost > 0
    assert is_broken(figures)


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "name",
    [name for name in SUBJECTS if not name.startswith("rabbitmq-classic") and name != "rabbitmq-quorum"],
)
def test_a_few_cuts_of_each_disk_that_promises_something(name: str) -> None:
    """What each of the others loses is measured, in docs/reliability.md."""
    with contextlib.ExitStack() as stack:
        needs_rabbit = SUBJECTS[name][0] is Spool
        rabbit = stack.enter_context(installed(RabbitServer)) if needs_rabbit else None
        figures = round_of(name, 1, 2, rabbit)
    assert not is_broken(figures), figures
    if name != "redis-everysec":
        assert figures.charges_missing == 0
