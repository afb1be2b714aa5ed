"""Times in JSON."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.timing.timestamps import OPTION, in_json, timestamp

TIMES = st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given its zone beside it


def test_a_timestamp_always_has_microseconds() -> None:
    """RFC 3339 in UTC, with six digits even when they are all 0."""
    assert timestamp(datetime(2026, 3, 1, tzinfo=UTC)) == "2026-03-01T00:00:00.000000Z"


@given(TIMES)
@example(datetime(2026, 3, 1, tzinfo=UTC))
@example(datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC))
def test_what_orjson_is_given_it_writes_as_a_timestamp(time: datetime) -> None:
    """Byte for byte, fraction and all."""
    assert orjson.dumps(in_json(time), option=OPTION) == orjson.dumps(timestamp(time))
