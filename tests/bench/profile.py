"""Where the time of a full send goes: samples of the gateway under load, by parts."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import parts
from tests.bench.cases import FRESH_KEY
from tests.bench.contenders import Contender, running
from tests.bench.measure import gateway_slice
from tests.support.servers import RabbitServer, RedisServer, ServerMissing

_SAMPLES_PER_SECOND = 400
_HOTTEST = 25


def profile(
    connections: int, seconds: int, store: RedisServer, broker: RabbitServer, say: Callable[[str], None]
) -> None:
    """Say which part takes how much of a request, and which functions take the most."""
    with running(FRESH_KEY.setup, store, broker) as contender:
        contender.prepare(FRESH_KEY)
        gateway_slice(FRESH_KEY, contender, connections, 2)
        # Measured without the sampler beside it, which stops the process for each sample.
        figures, _, _ = gateway_slice(FRESH_KEY, contender, connections, seconds)
        stacks = _sampled(contender, connections, seconds)
    say(f"fresh-key at {connections} connections, {sum(stacks.values()):,} samples\n")
    say(parts.chart(parts.shares(stacks), figures.cpu_us) + "\n")
    say(parts.listing(parts.hottest(stacks, _HOTTEST), figures.cpu_us))


def _sampled(contender: Contender, connections: int, seconds: int) -> Mapping[str, int]:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "stacks"
        command = [
            _program(),
            "record",
            f"--pid={contender.pid}",
            f"--rate={_SAMPLES_PER_SECOND}",
            f"--duration={seconds}",
            "--format=raw",
            f"--output={file}",
        ]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as sampler:
            try:
                # A second longer, so that the last samples are of load too.
                gateway_slice(FRESH_KEY, contender, connections, seconds + 1)
                printed, _ = sampler.communicate(timeout=30)
            finally:
                sampler.kill()
        if sampler.returncode:
            raise RuntimeError(f"py-spy failed; it may need to be run as root:\n{printed}")
        return parts.parse(file.read_text(encoding="utf-8"))


def _program() -> str:
    here = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if found := here or shutil.which("py-spy"):
        return found
    raise ServerMissing("py-spy is not installed: run `pip install --editable '.[bench]'`")
