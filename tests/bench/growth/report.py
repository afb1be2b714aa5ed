"""What was measured: tables for people, in Markdown, and the same for machines."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.servers import RabbitServer

ROOT = Path(__file__).parents[3]

Cell = str | int | float


@dataclass
class Table:
    """Rows of figures under headings, which name their units."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row, and say it."""
        assert len(cells) == len(self.columns)
        self.rows.append(cells)
        say("  " + ", ".join(f"{name} {shown(cell)}" for name, cell in zip(self.columns, cells, strict=True)))

    def markdown(self) -> str:
        """The table as a page of documentation takes it."""
        lines = [
            f"**{self.title}**",
            "",
            line(self.columns),
            line(["---"] * len(self.columns)),
            *(line([shown(cell) for cell in row]) for row in self.rows),
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same, with figures as numbers."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "title": self.title, "rows": rows}


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shown(cell: Cell) -> str:
    """A figure with three digits that count, and thousands kept apart."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{round(cell):,}"
    return f"{cell:.3g}"


def circumstances() -> dict[str, str]:
    """The revision and the machine, without which no figure means anything."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False)
    return {
        "revision": found.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "redis": redis.stdout.split("v=")[-1].split(" ")[0],
        "rabbitmq": rabbitmq_version(),
    }


def rabbitmq_version() -> str:
    """What the installed RabbitMQ calls itself; no node is started."""
    server = RabbitServer()
    try:
        return server.ctl("version").strip()
    finally:
        server.close()


def processor() -> str:
    """What the machine calls its processor."""
    path = Path("/proc/cpuinfo")
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    names = [row.partition(":")[2].strip() for row in found.splitlines() if row.startswith("model name")]
    return names[0] if names else platform.processor()


def say(text: str) -> None:
    """Print at once, however the output is read."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
