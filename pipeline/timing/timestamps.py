"""Times as they are written in JSON: RFC 3339, in UTC, with microseconds and ``Z``."""

from __future__ import annotations

from datetime import datetime

import orjson

OPTION = orjson.OPT_UTC_Z
"""What ``orjson.dumps`` has to be told when it is given what ``in_json`` gives."""


def timestamp(time: datetime) -> str:
    """The text of ``time``, which is aware and in UTC."""
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def in_json(time: datetime) -> datetime | str:
    """What orjson writes as ``timestamp(time)`` would, for a tenth of its cost: the time itself, nearly always."""
    # Of a whole second it would leave out the fraction.
    return time if time.microsecond else timestamp(time)
