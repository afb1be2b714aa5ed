"""The other gateways, each for a second where it is installed: what they accept comes through, and is counted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bench import wrk
from tests.bench.measure import Figures
from tests.bench.peers import compare
from tests.bench.peers.jasmin import Jasmin
from tests.bench.peers.kannel import Kannel
from tests.bench.peers.peer import Peer, PeerMissing
from tests.bench.processes import IS_LINUX, LINUX_ONLY
from tests.support.servers import RabbitServer, RedisServer, installed

SCRIPT = Path(__file__).parents[1] / "install-peers.sh"


# The peers are other people's gateways, which only a comparison asked for by `--peers` installs: no test run brings
# them along, not in CI either. What of the bench needs none of them is tested beside this file, without a skip in CI.


@pytest.fixture
def installed_wrk() -> None:
    if not IS_LINUX:
        pytest.skip(LINUX_ONLY)
    installed(wrk.program)


def slice_of(peer: Peer) -> Figures:
    figures, accepted, stored = compare._theirs(peer)(2, 1)
    assert 0 < accepted <= stored
    return figures


@pytest.mark.usefixtures("installed_wrk")
@pytest.mark.parametrize("keeps_file", [False, True])
def test_what_kannel_accepts_its_smsc_takes(keeps_file: bool) -> None:
    try:
        peer = Kannel(keeps_file=keeps_file)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    with peer:
        figures = slice_of(peer)
        assert (figures.cpu_us > 0, figures.redis_cpu_us, figures.rabbitmq_cpu_us) == (True, 0, 0)
        assert (peer.directory / "messages.store").exists() is keeps_file
        assert peer.take(0) == 0


@pytest.mark.usefixtures("installed_wrk")
def test_what_jasmin_accepts_is_on_its_queue(redis_server: RedisServer, rabbit_server: RabbitServer) -> None:
    try:
        peer = Jasmin(redis_server, rabbit_server)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    with peer:
        peer.set_up()
        figures = slice_of(peer)
        assert min(figures.cpu_us, figures.redis_cpu_us, figures.rabbitmq_cpu_us) > 0
        assert peer.take(0) == 0


def test_the_installer_says_of_each_what_could_not_be_had(tmp_path: Path) -> None:
    bench = tmp_path / "tests" / "bench"
    bench.mkdir(parents=True)
    for script in (SCRIPT, SCRIPT.with_name("apt.sh")):
        shutil.copy(script, bench)
    found = subprocess.run(
        ["/bin/sh", bench / SCRIPT.name],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 1
    assert "Kannel could not be had: it is not installed, and there is no apt-get here" in found.stderr
    assert "Jasmin could not be had: it is not installed, and no Python" in found.stderr
