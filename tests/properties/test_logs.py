"""Log lines and masked numbers, whatever is in them."""

from __future__ import annotations

import json
import logging
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from gateway.observability import logs
from pipeline.stages.auth import hint
from tests.properties.json_values import VALUES
from tests.support.lines import Lines
from tests.unit.conftest import lines  # noqa: F401 - a fixture

WHATEVER = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# One capture serves all examples: each reads what it wrote.
ONE_CAPTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_CAPTURE
@given(message=WHATEVER, extra=st.dictionaries(st.sampled_from(["client", "cause", "path", "stage"]), VALUES))
def test_a_line_is_one_json_object(lines: Lines, message: str, extra: dict[str, Any]) -> None:  # noqa: F811
    """Line ends, braces, quotes and markup in any string stay within its line."""
    logger.bind(**extra).info("{}", message)
    line = lines.one()
    assert line["message"] == message
    assert {name: line[name] for name in extra} == json.loads(json.dumps(extra))


@ONE_CAPTURE
@given(message=WHATEVER, name=st.from_regex(r"\A[a-z]{1,8}(\.[a-z]{1,8})?\Z"))
def test_a_librarys_line_is_one_json_object(lines: Lines, message: str, name: str) -> None:  # noqa: F811
    """Whatever a library logs under whatever name."""
    logging.getLogger(f"library.{name}").warning("%s", message)
    assert lines.one()["message"] == message


@given(st.from_regex(r"\A\+[1-9][0-9]{1,14}\Z"))
def test_a_masked_number_hides_some_of_it(number: str) -> None:
    """It shows only the number's own beginning and end, at most ten characters, and never all."""
    start, stars, end = logs.mask(number).partition("***")
    assert stars
    assert number.startswith(start)
    assert number.endswith(end)
    assert len(start) <= 6
    assert len(end) <= 4
    assert len(number) - len(start) - len(end) >= 3 or not start
    assert logs.mask(number) != number


@given(st.binary(max_size=80))
def test_of_a_key_at_most_four_characters_are_shown(key: bytes) -> None:
    """And never more than half of it."""
    shown = hint(key).removesuffix("…")
    assert len(shown) <= min(4, len(key) // 2)
