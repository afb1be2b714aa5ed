"""Which part of the gateway a sample belongs to."""

from __future__ import annotations

import pytest

from tests.bench import parts

OUTER = "main (gateway/cli.py:90);Server.run (uvicorn/server.py:75);Runner.run (asyncio/runners.py:118)"


@pytest.mark.parametrize(
    ("inner", "part"),
    [
        ("", parts.LOOP),
        (";RequestResponseCycle.run_asgi (uvicorn/protocols/http/httptools_impl.py:428)", parts.SERVER),
        (";Boundary.__call__ (pipeline/boundary.py:52);timeout (asyncio/timeouts.py:96)", parts.PIPELINE),
        (";Boundary.__call__ (pipeline/boundary.py:52);parse (pipeline/payload.py:7)", parts.VALIDATION),
        (";Publish.__call__ (pipeline/publish.py:60);write (asyncio/streams.py:5)", parts.PIPELINE),
        (";Link.execute (gateway/redis/link.py:31);Session.send (gateway/redis/session.py:9)", parts.REDIS),
        (";publish (gateway/rabbitmq/channel.py:8);write (asyncio/streams.py:5)", parts.RABBITMQ),
        (";GatewayTelemetry.answered (gateway/observability/telemetry.py:70)", parts.METRICS),
        (";GatewayTelemetry._log (gateway/observability/telemetry.py:88)", parts.LOGS),
        (";_log (gateway/observability/telemetry.py:88);dumps (json/__init__.py:5)", parts.LOGS),
        (";f (/opt/venv/lib/python3.11/site-packages/loguru/_logger.py:5)", parts.LOGS),
    ],
)
def test_the_innermost_frame_that_is_known_decides(inner: str, part: str) -> None:
    assert parts.part_of(OUTER + inner) == part


def test_what_is_known_nowhere_is_other() -> None:
    assert parts.part_of("run (threading.py:982);[unknown]") == parts.OTHER


def test_shares_are_of_all_samples_the_largest_first() -> None:
    stacks = parts.parse(f"{OUTER} 1\n{OUTER};send (gateway/redis/session.py:9) 3\n")
    assert list(parts.shares(stacks).items()) == [(parts.REDIS, 0.75), (parts.LOOP, 0.25)]


def test_the_hottest_functions_are_told_apart_by_name_and_not_by_line() -> None:
    stacks = parts.parse("a (x.py:1);b (y.py:1) 1\na (x.py:1);b (y.py:2) 2\na (x.py:1) 1\n")
    assert parts.hottest(stacks, 1) == [("b (y.py)", 0.75)]


def test_the_chart_tells_each_part_in_microseconds() -> None:
    chart = parts.chart({parts.REDIS: 0.75, parts.LOGS: 0.25}, 200.0)
    assert f"| {parts.REDIS} | 75% | 150 |" in chart
    assert chart.splitlines()[-1] == "| all | 100% | 200 | |"
