"""Which part of the gateway a sampled call stack was in, and how much of the time each part takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

LOOP = "event loop: waiting for sockets, reading them"
SERVER = "uvicorn, httptools: heads, writing answers"
PIPELINE = "pipeline stages and boundary"
VALIDATION = "body and validation"
REDIS = "Redis link"
RABBITMQ = "RabbitMQ publish"
EMBEDDED = "embedded file"
LOGS = "logs"
METRICS = "metrics"
OTHER = "other"

# A part by how a frame's file begins, or its "function (file" as a whole; the first that fits. What fits nowhere, such
# as the standard library, belongs to its caller.
_PLACES = (
    ("_log (gateway/observability/telemetry.py", LOGS),
    ("_explain (gateway/observability/telemetry.py", LOGS),
    ("gateway/observability/logs.py", LOGS),
    ("gateway/observability/stdout.py", LOGS),
    ("loguru/", LOGS),
    ("orjson/", LOGS),
    ("gateway/observability/telemetry.py", METRICS),
    ("gateway/observability/metrics.py", METRICS),
    ("gateway/observability/tallies.py", METRICS),
    ("prometheus_client/", METRICS),
    ("gateway/redis/", REDIS),
    ("redis/", REDIS),
    ("hiredis/", REDIS),
    ("gateway/rabbitmq/", RABBITMQ),
    ("aiormq/", RABBITMQ),
    ("pamqp/", RABBITMQ),
    ("gateway/embedded/", EMBEDDED),
    ("pipeline/stages/validation.py", VALIDATION),
    ("pipeline/payload.py", VALIDATION),
    ("schemas/", VALIDATION),
    ("jsonschema", VALIDATION),
    ("pipeline/", PIPELINE),
    ("gateway/http/", SERVER),
    ("uvicorn/server.py", LOOP),
    ("uvicorn/", SERVER),
    ("run (asyncio/runners.py", LOOP),
    ("gateway/", PIPELINE),
    ("starlette/", PIPELINE),
)
# Python 3.11 and later give a method together with its class.
_FRAME = re.compile(r"^(?:.*\.)?(?P<function>[^.]+) \((?:.*site-packages/)?(?P<file>.+?)(?::\d+)?\)$")


def parse(collapsed: str) -> Counter[str]:
    """Samples by call stack, from lines of ``outermost;…;innermost COUNT``."""
    stacks: Counter[str] = Counter()
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[stack] += int(count)
    return stacks


def part_of(stack: str) -> str:
    """The part that the innermost frame belongs to which belongs to any."""
    for frame in reversed(stack.split(";")):
        found = _FRAME.match(frame)
        if found is None:
            continue
        for place, part in _PLACES:
            if found["file"].startswith(place) or f"{found['function']} ({found['file']}".startswith(place):
                return part
    return OTHER


def shares(stacks: Mapping[str, int]) -> dict[str, float]:
    """The part of all samples that each part has, the largest first."""
    samples: Counter[str] = Counter()
    for stack, count in stacks.items():
        samples[part_of(stack)] += count
    return {part: count / samples.total() for part, count in samples.most_common()}


def hottest(stacks: Mapping[str, int], most: int) -> list[tuple[str, float]]:
    """The functions in which the most samples were taken, with their part of all."""
    leaves: Counter[str] = Counter()
    for stack, count in stacks.items():
        leaves[re.sub(r":\d+\)$", ")", stack.rpartition(";")[2])] += count
    return [(leaf, count / leaves.total()) for leaf, count in leaves.most_common(most)]


def chart(shares: Mapping[str, float], cpu_us: float) -> str:
    """The shares as bars, in Markdown; ``cpu_us`` is the CPU time of a request."""
    lines = ["| part | share | µs a request | |", "|---|---:|---:|---|"]
    lines += [
        f"| {part} | {share:.0%} | {share * cpu_us:.0f} | `{'█' * max(1, round(share * 60))}` |"
        for part, share in shares.items()
    ]
    return "\n".join([*lines, f"| all | 100% | {cpu_us:.0f} | |"])


def listing(functions: Iterable[tuple[str, float]], cpu_us: float) -> str:
    """Functions with their shares, in Markdown."""
    lines = ["| where the samples were taken | share | µs a request |", "|---|---:|---:|"]
    lines += [f"| `{name}` | {share:.1%} | {share * cpu_us:.1f} |" for name, share in functions]
    return "\n".join(lines)
