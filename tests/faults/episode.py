"""One round: some faults one after the other under load, and then the verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import oracle, releases
from tests.faults.oracle import Verdict
from tests.faults.servers import Servers
from tests.faults.setups import Setup
from tests.faults.world import Fault, World

_BETWEEN_SECONDS = 0.7


@dataclass
class Episode:
    """What a round came to. ``recoveries`` holds each fault and the seconds, in their order."""

    seed: int
    setup: Setup
    verdict: Verdict
    recoveries: list[tuple[Fault, float]] = field(default_factory=list)
    kept: Path | None = None
    seconds: float = 0.0


def failed(setup: Setup, seed: int, reason: str) -> Episode:
    """A round that could not be played to its end: nobody knows what it would have come to."""
    return Episode(seed, setup, Verdict(violations=[f"the round itself failed: {reason}"]))


def play(
    servers: Servers,
    setup: Setup,
    seed: int,
    faults: Sequence[Fault],
    say: Callable[[str], None] = lambda _: None,
    root: Path = releases.ROOT,
) -> Episode:
    """Inject these faults one after the other under load, and judge what came of it. ``root`` holds what is run."""
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
    world = World(servers, setup, seed, directory, root)
    recoveries: list[tuple[Fault, float]] = []
    try:
        world.start()
        with world.driver:
            world.sleep(_BETWEEN_SECONDS, 2 * _BETWEEN_SECONDS)
            for fault in faults:
                began = time.monotonic()
                recovery = world.inject(fault)
                recoveries.append((fault, recovery))
                say(f"  {fault.name}: {time.monotonic() - began:.1f} s, recovered in {recovery:.2f} s")
                world.sleep(_BETWEEN_SECONDS, 2 * _BETWEEN_SECONDS)
            world.driver.finish()
            run = world.collect()
        world.search_for_private_data()
        world.end()
        verdict = oracle.judge(run)
        verdict.violations += sorted(set(world.violations))
    finally:
        servers.heal()
        world.close()
    episode = Episode(seed, setup, verdict, recoveries, seconds=time.monotonic() - started)
    if verdict.violations:
        (directory / "violations.txt").write_text("\n".join(verdict.violations), encoding="utf-8")
        episode.kept = directory
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return episode
