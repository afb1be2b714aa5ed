"""How the cost grows, measured small: that the measurement works, and the one budget in it that is no time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.growth.records import BUDGET_BYTES, KINDS
from tests.bench.processes import IS_LINUX, LINUX_ONLY
from tests.support.servers import RabbitServer, RedisServer, installed

ROOT = Path(__file__).parents[2]

Rows = dict[str, list[dict[str, Any]]]

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of each table."""
    if not IS_LINUX:
        pytest.skip(LINUX_ONLY)
    for kind in (RedisServer, RabbitServer):
        installed(kind).close()
    file = tmp_path_factory.mktemp("growth") / "growth.json"
    small = (
        "--clients 1,100 --providers 2,20 --texts 1,1600 --records 2000 --connections 1,4 --backlog 1000"
        " --seconds 0.3"
    )
    subprocess.run(
        [sys.executable, "-m", "tests.bench.growth", *small.split(), "--json", str(file)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    found = json.loads(file.read_text(encoding="utf-8"))
    assert all(found[name] for name in ("revision", "python", "system", "cores", "redis", "rabbitmq"))
    return {table["name"]: table["rows"] for table in found["tables"]}


@pytest.mark.parametrize(
    ("table", "column", "sizes"),
    [
        ("clients", "clients", [1, 100]),
        ("providers", "providers", [2, 20]),
        ("aliases", "aliases", [2, 20]),
        ("texts", "characters", [1, 1, 1600, 1600]),
        ("records", "records", [2000] * len(KINDS)),
        ("sends", "connections", [1, 1, 4, 4]),
        ("backlog", "waiting", [0, 1000, 0, 1000]),
        ("filling", "messages", [1000, 1000]),
        ("embedded", "waiting", [0, 1000]),
        ("claims", "claims", [0, 1000, 1000]),
    ],
)
def test_every_size_has_its_row_of_figures(rows: Rows, table: str, column: str, sizes: list[int]) -> None:
    """Nothing is left out, and no figure is less than nothing."""
    assert [row[column] for row in rows[table]] == sizes
    figures = [cell for row in rows[table] for cell in row.values() if not isinstance(cell, str)]
    assert min(figures) >= 0


def test_bytes_on_every_way_are_counted(rows: Rows) -> None:
    """They are what bandwidth is reckoned from."""
    assert [row["way"] for row in rows["wire"]] == [
        "sender to gateway",
        "gateway to Redis",
        "gateway to RabbitMQ",
        "gateway to its log",
    ]
    assert all(row["to it bytes"] > 100 for row in rows["wire"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "with a key" in kind])
def test_the_record_of_a_key_keeps_to_its_budget(rows: Rows, kind: str) -> None:
    """Millions of them lie in memory for a day: by Redis's own account of one, and by what all of them add."""
    (record,) = [row for row in rows["records"] if row["record"] == kind]
    assert record["encoding"] == "listpack"
    assert record["MEMORY USAGE"] <= BUDGET_BYTES
    assert record["used_memory"] <= BUDGET_BYTES


def test_expired_claims_are_cleaned_up_under_load(rows: Rows) -> None:
    """And current ones are not."""
    assert [row["cleaned/s"] > 0 for row in rows["claims"]] == [False, False, True]
