"""The bench itself, as short as it goes: that it works, and finds every 202 on the queue. No figure is judged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import bare, report, wrk
from tests.bench.budgets import judge
from tests.bench.cases import EMBEDDED, FRESH_KEY
from tests.bench.contenders import Contender, running
from tests.bench.measure import alternate, gateway_slice
from tests.bench.processes import IS_LINUX, LINUX_ONLY
from tests.bench.run import Plan, about, chosen, run
from tests.support.servers import RabbitServer, RedisServer, installed

CASES = ("fresh-key", "replay", "key-in-progress", "embedded")


pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def installed_wrk() -> None:
    """Where wrk is not installed these are skipped, but never in CI; and on another system than Linux."""
    if not IS_LINUX:
        pytest.skip(LINUX_ONLY)
    installed(wrk.program)


def test_a_short_run_finds_every_202_on_the_queue(
    redis_server: RedisServer, rabbit_server: RabbitServer
) -> None:
    plan = Plan(chosen(CASES), (4,), seconds=1, rounds=1, overhead_batches=1, overhead_calls=200)
    said: list[str] = []
    results = run(plan, redis_server, rabbit_server, said.append)
    verdicts = judge(results)
    found = json.loads(json.dumps(report.document(about(plan, rabbit_server, "test"), results, verdicts)))
    assert [row["failure"] for row in found["cases"]] == [None] * len(CASES)
    assert [row["case"] for row in found["cases"]] == list(CASES)
    for row in found["cases"]:
        is_send = row["case"] in ("fresh-key", "embedded")
        assert (row["accepted"] > 0) == is_send
        assert row["accepted"] <= row["stored"] <= row["accepted"] + 4 * is_send
        assert row["gateway"]["cpu_us"] > 0
        assert row["bare"]["requests_per_second"] > 0
    assert found["overhead_us"] is not None
    assert found.keys() >= {"machine", "versions", "revision", "command", "budgets", "memory", "peers"}
    assert {one["budget"].partition(":")[0] for one in found["budgets"]} >= {
        "fresh-key",
        "overload",
        "memory",
    }
    assert len(said) == len(CASES) + 1
    assert report.rows_table(results.rows).count("\n") == len(CASES) + 1
    assert report.verdicts_table(verdicts).count("\n") == len(verdicts) + 1


@pytest.fixture
def embedded(redis_server: RedisServer, rabbit_server: RabbitServer) -> Iterator[Contender]:
    with running(EMBEDDED, redis_server, rabbit_server) as contender:
        yield contender


def test_a_202_that_is_not_on_the_queue_fails_the_case(
    embedded: Contender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "take_ids", lambda expected: {"one"})
    with pytest.raises(wrk.WrongAnswers, match=r"accepted, but 1 on the queue"):
        gateway_slice(FRESH_KEY, embedded, 2, 1)


def test_other_answers_than_expected_fail_the_case_and_are_shown(embedded: Contender) -> None:
    refused = replace(FRESH_KEY, load=replace(FRESH_KEY.load, body="[]"))
    with bare.serving() as reference:
        row = alternate(refused, reference, embedded, 2, 1, 1)
    assert row.failure is not None
    assert "expected only 202" in row.failure
    assert "× 422" in row.failure
    assert "FAILED" in report.row_line(row)


def test_the_installer_does_nothing_where_wrk_is_and_else_says_what_to_install(tmp_path: Path) -> None:
    script = Path(__file__).with_name("install-wrk.sh")

    def install() -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(tmp_path)}
        return subprocess.run(
            ["/bin/sh", script], env=environ, capture_output=True, text=True, timeout=30, check=False
        )

    (tmp_path / "cat").symlink_to(shutil.which("cat") or "cat")
    missing = install()
    assert missing.returncode == 1
    assert "sudo apt-get install wrk" in missing.stderr
    (tmp_path / "wrk").symlink_to(shutil.which("sh") or "sh")
    present = install()
    assert (present.returncode, present.stdout, present.stderr) == (0, "", "")
