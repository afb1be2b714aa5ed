"""Slices of load, alternating between bare uvicorn and the gateway, and the medians of both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tests.bench import wrk
from tests.bench.bare import Bare
from tests.bench.cases import Case
from tests.bench.contenders import Contender
from tests.bench.processes import cpu_seconds
from tests.bench.wrk import Answers, Load, WrongAnswers


@dataclass(frozen=True)
class Figures:
    """Of one slice, or the medians of several. CPU times are in µs a request, 0 for a server that has no part."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    redis_cpu_us: float = 0.0
    rabbitmq_cpu_us: float = 0.0


@dataclass(frozen=True)
class Row:
    """A case at one number of connections. Ratios are those of the gateway to bare uvicorn.

    ``accepted`` counts the 202s that are messages of their own, ``stored`` the tracking_ids on the queue; ``failure``
    says why the figures are worth nothing.
    """

    case: str
    connections: int
    bare: Figures | None = None
    gateway: Figures | None = None
    cpu_ratio: float = 0.0
    throughput_ratio: float = 0.0
    accepted: int = 0
    stored: int = 0
    failure: str | None = None


def alternate(
    case: Case, bare: Bare, contender: Contender, connections: int, seconds: int, rounds: int
) -> Row:
    """Measure a case: bare uvicorn, gateway, bare uvicorn, gateway, and so on."""
    pairs: list[tuple[Figures, Figures]] = []
    accepted = stored = 0
    try:
        # The first second goes to what is done only once.
        gateway_slice(case, contender, connections, 1)
        for _ in range(rounds):
            reference = bare_slice(bare, case.load, connections, seconds)
            figures, of_slice, found = gateway_slice(case, contender, connections, seconds)
            pairs.append((reference, figures))
            accepted += of_slice
            stored += found
    except WrongAnswers as wrong:
        return Row(case.name, connections, failure=str(wrong))
    return Row(
        case.name,
        connections,
        median([pair[0] for pair in pairs]),
        median([pair[1] for pair in pairs]),
        # Of each pair by itself: what slows the machine down for a while slows down both.
        statistics.median(ours.cpu_us / theirs.cpu_us for theirs, ours in pairs),
        statistics.median(ours.requests_per_second / theirs.requests_per_second for theirs, ours in pairs),
        accepted,
        stored,
    )


def under_load(
    pids: Sequence[int], url: str, load: Load, connections: int, seconds: int, servers: Sequence[int] = ()
) -> tuple[Figures, Answers]:
    """One slice; ``pids`` are the processes that serve it together, ``servers`` those of Redis and RabbitMQ."""
    before = _spent(pids, servers)
    answers = wrk.run(url, load, connections, seconds)
    spent = [end - start for start, end in zip(before, _spent(pids, servers), strict=True)]
    if not answers.requests:
        raise WrongAnswers("nothing was answered")
    figures = Figures(
        answers.requests / answers.seconds,
        answers.p50_ms,
        answers.p99_ms,
        *(cpu / answers.requests * 1e6 for cpu in spent),
    )
    return figures, answers


def bare_slice(bare: Bare, load: Load, connections: int, seconds: int) -> Figures:
    """One slice of bare uvicorn."""
    figures, answers = under_load([bare.pid], bare.url, load, connections, seconds)
    answers.expect(202)
    return figures


def gateway_slice(
    case: Case, contender: Contender, connections: int, seconds: int
) -> tuple[Figures, int, int]:
    """One slice of a case on its gateway: its figures, how many were accepted, and how many messages that made.

    Raises ``WrongAnswers`` for an answer of another status, and for a message too few or too many.
    """
    servers = () if contender.setup.is_embedded else (contender.store.pid, contender.broker.pid)
    with contender.holding(case.held):
        figures, answers = under_load(
            [contender.pid], contender.url, case.load, connections, seconds, servers
        )
    answers.expect(case.status)
    accepted = answers.requests if case.stores else 0
    stored = len(contender.take_ids(accepted))
    count(accepted, stored, connections if case.stores else 0)
    return figures, accepted, stored


def count(accepted: int, stored: int, connections: int) -> None:
    """Raise ``WrongAnswers`` for a message too few or too many.

    Each of ``connections`` may have had one in flight when wrk left.
    """
    if not accepted <= stored <= accepted + connections:
        raise WrongAnswers(f"{accepted} accepted, but {stored} on the queue")


def median(figures: Sequence[Figures]) -> Figures:
    """The median of each figure by itself."""
    return Figures(
        *(statistics.median(getattr(one, field.name) for one in figures) for field in fields(Figures))
    )


def _spent(pids: Sequence[int], servers: Sequence[int]) -> list[float]:
    return [sum(map(cpu_seconds, pids)), *map(cpu_seconds, servers)]
