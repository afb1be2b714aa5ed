"""How long one call takes, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

_ROUNDS = 5
_ROUND_SECONDS = 0.05


def microseconds(call: Callable[[], object]) -> float:
    """The processor time of one call: of several rounds the best, as whatever disturbs a round makes it longer."""
    calls = 1
    while (seconds := _round(call, calls)) < _ROUND_SECONDS / 4:
        calls *= 4
    calls = max(1, math.ceil(calls * _ROUND_SECONDS / seconds))
    return min(_round(call, calls) for _ in range(_ROUNDS)) / calls * 1e6


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _round(call: Callable[[], object], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - started
