"""Whether memory stays flat: what the gateway holds after the first tenth of many requests, and after all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.cases import MEMORY
from tests.bench.contenders import running
from tests.bench.measure import gateway_slice
from tests.bench.processes import resident_bytes
from tests.support.servers import RabbitServer, RedisServer

_CONNECTIONS = 64
# At most so many seconds before the queue is emptied.
_SLICE_SECONDS = 8
_MIB = 1 << 20


@dataclass(frozen=True)
class Growth:
    """Resident memory of the gateway after ``early`` and after ``requests`` requests, in MiB."""

    early: int
    requests: int
    early_mib: float
    mib: float

    @property
    def grown_mib(self) -> float:
        """By how much it has grown in between."""
        return self.mib - self.early_mib


def measure(requests: int, store: RedisServer, broker: RabbitServer, say: Callable[[str], None]) -> Growth:
    """Send so many, each with a key of its own; every 202 is looked for on the queue."""
    done = early = 0
    early_mib = mib = 0.0
    with running(MEMORY.setup, store, broker) as contender:
        contender.prepare(MEMORY)
        while done < requests:
            _, accepted, _ = gateway_slice(MEMORY, contender, _CONNECTIONS, _SLICE_SECONDS)
            contender.forget()
            done += accepted
            mib = resident_bytes(contender.pid) / _MIB
            if not early and done >= requests / 10:
                early, early_mib = done, mib
            say(f"memory: {done:,} of {requests:,} requests, {mib:.1f} MiB")
    return Growth(early, done, early_mib, mib)
