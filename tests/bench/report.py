"""The end of a run: tables for people, a document for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.budgets import Results, Verdict
from tests.bench.measure import Figures, Row, median
from tests.bench.peers.compare import PeerRow

_COLUMNS = (
    "case",
    "conn.",
    "req/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "× bare CPU",
    "bare req/s",
    "bare CPU µs",
    "Redis µs",
    "RabbitMQ µs",
    "202s",
    "on the queue",
)
_PEER_COLUMNS = (
    "gateway",
    "conn.",
    "CPU µs",
    "× bare CPU",
    "Redis, RabbitMQ µs",
    "req/s",
    "p50 ms",
    "p99 ms",
    "durable",
    "confirmed",
    "idempotent",
    "quota",
)


def document(about: Mapping[str, Any], results: Results, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Everything, as JSON has it."""
    growth = results.growth
    return {
        **about,
        "cases": [asdict(row) for row in results.rows],
        "peers": [asdict(row) for row in results.peers],
        "overhead_us": results.overhead_us,
        "memory": None if growth is None else asdict(growth),
        "budgets": [asdict(verdict) for verdict in verdicts],
    }


def heading(about: Mapping[str, Any]) -> str:
    """What the run was made on and of, in Markdown."""
    machine = about["machine"]
    hardware = f"{machine['cores']} × {machine['processor']}"
    listed = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return "\n".join(
        [
            f"- machine: {hardware}, {machine['system']}, load {machine['load']} before the run",
            f"- versions: {listed}",
            f"- revision: {about['revision']}, {about['began']}",
            f"- command: `{about['command']}`",
        ]
    )


def peers_table(rows: Sequence[PeerRow]) -> str:
    """One line for each gateway and number of connections, in Markdown, and one for bare uvicorn before them."""
    lines = [f"| {' | '.join(_PEER_COLUMNS)} |", "|---|" + "--:|" * 7 + "---|" * 4]
    for connections in sorted({row.connections for row in rows}):
        of_these = [row for row in rows if row.connections == connections]
        lines += [_bare_line(of_these), *map(_peer_line, of_these)]
    return "\n".join(lines)


def _bare_line(rows: Sequence[PeerRow]) -> str:
    slices = [row.bare for row in rows if row.bare is not None]
    if not slices:
        return f"| bare uvicorn | {rows[0].connections} |" + " – |" * 10
    bare = median(slices)
    return f"| bare uvicorn | {rows[0].connections} | {_load_cells(bare, 1.0)} | stores nothing | – | – | – |"


def _peer_line(row: PeerRow) -> str:
    if row.figures is None:
        # The end of a server's log may be in it, of several lines.
        why = " ".join((row.failure or "").split()).replace("|", "/")
        return f"| {row.name} | {row.connections} | {why} |" + " |" * 9
    said = row.promise
    return (
        f"| {row.name} | {row.connections} | {_load_cells(row.figures, row.cpu_ratio)} "
        f"| {said.durable} | {said.confirmed} | {said.idempotent} | {said.quota} |"
    )


def _load_cells(figures: Figures, cpu_ratio: float) -> str:
    servers = (
        f"{figures.redis_cpu_us:.0f} + {figures.rabbitmq_cpu_us:.0f}" if figures.rabbitmq_cpu_us else "–"
    )
    return (
        f"{figures.cpu_us:.0f} | {cpu_ratio:.2f} | {servers} | {figures.requests_per_second:,.0f} "
        f"| {figures.p50_ms:.2f} | {figures.p99_ms:.2f}"
    )


def rows_table(rows: Iterable[Row]) -> str:
    """One line for each case and number of connections, in Markdown."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---|" + "--:|" * (len(_COLUMNS) - 1)]
    return "\n".join([*lines, *map(row_line, rows)])


def row_line(row: Row) -> str:
    """One line of that table."""
    ours, bare = row.gateway, row.bare
    if ours is None or bare is None:
        return f"| {row.case} | {row.connections} | FAILED: {row.failure} |" + " |" * (len(_COLUMNS) - 3)
    cells = [
        row.case,
        row.connections,
        f"{ours.requests_per_second:,.0f}",
        f"{ours.p50_ms:.2f}",
        f"{ours.p99_ms:.2f}",
        f"{ours.cpu_us:.0f}",
        f"{row.cpu_ratio:.2f}",
        f"{bare.requests_per_second:,.0f}",
        f"{bare.cpu_us:.0f}",
        f"{ours.redis_cpu_us:.0f}" if ours.redis_cpu_us else "–",
        f"{ours.rabbitmq_cpu_us:.0f}" if ours.rabbitmq_cpu_us else "–",
        f"{row.accepted:,}" if row.accepted else "–",
        f"{row.stored:,}" if row.accepted else "–",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def verdicts_table(verdicts: Iterable[Verdict]) -> str:
    """One line for each budget, in Markdown."""
    lines = ["| budget | figure | | |", "|---|--:|---|---|"]
    lines += [
        f"| {verdict.budget} | {verdict.shown} | {verdict.verdict} | {verdict.note} |" for verdict in verdicts
    ]
    return "\n".join(lines)
