"""Each breakage still fits the source, and one is caught; ``make breakages`` shows that all are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.breakage_list import BREAKAGES, Breakage
from tests.faults.breakages import tried
from tests.faults.faults import deck, named
from tests.faults.releases import ROOT
from tests.faults.servers import Servers
from tests.faults.setups import setup_of

(CAUGHT_EVERY_DAY,) = [one for one in BREAKAGES if one.name == "a 202 leaves before the confirm"]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_a_breakage_fits_the_source_and_its_faults_the_setup(breakage: Breakage) -> None:
    source = (ROOT / breakage.file).read_text(encoding="utf-8")
    assert source.count(breakage.sound) == 1
    broken = source.replace(breakage.sound, breakage.broken)
    if Path(breakage.file).suffix == ".py":
        compile(broken, breakage.file, "exec")
    assert {named(name) for name in breakage.faults} <= set(deck(setup_of(0, breakage.setup)))


def test_there_are_twenty_and_each_has_a_name() -> None:
    assert len({breakage.name for breakage in BREAKAGES}) == len(BREAKAGES) >= 20


@pytest.mark.servers
@pytest.mark.timeout(1200)
def test_a_breakage_is_caught(servers: Servers) -> None:
    assert tried(servers, CAUGHT_EVERY_DAY).complaint is not None
