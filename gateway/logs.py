"""Logs: one JSON object a line on stdout, ours and the libraries' alike.

What is never logged: a message's text, a whole API key, a whole number. So an exception is logged with its type and
where it was raised, but without its own words, in which a library may have quoted any of these.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import traceback
from datetime import UTC
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

_STDOUT = 1

if TYPE_CHECKING:
    import loguru


def configure(service: str, level: str) -> None:
    """Send every log line of this process to stdout as JSON; ``level`` is a name that loguru knows."""

    def write(line: loguru.Message) -> None:
        record = line.record
        entry: dict[str, Any] = {
            "timestamp": record["time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record["level"].name,
            "service": service,
            "message": record["message"],
        }
        # What is bound never hides what every line has.
        entry = entry | record["extra"] | entry
        if record["exception"] is not None and record["exception"].value is not None:
            entry["exception"] = describe(record["exception"].value)
        # Past Python's buffer: a line that could not be written must not fail once more at the end of the process.
        rest = _to_json(entry) + b"\n"
        while rest:  # A signal may cut a write short.
            rest = rest[os.write(_STDOUT, rest) :]

    logger.remove()
    logger.add(write, level=level, format="{message}", backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Forward()], level=logging.NOTSET, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"
    # Our protocol logs what it refuses, with its tracking_id.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not str(record.msg).startswith("Invalid HTTP request")
    )
    for noisy in ("asyncio", "redis"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # What is worth knowing of connections to RabbitMQ our own adapter tells, once; and aiormq would quote messages.
    for quoting in ("aiormq", "pamqp"):
        logging.getLogger(quoting).setLevel(logging.CRITICAL)


def _to_json(entry: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Half a character, or an integer of more than 64 bits: better a line that differs than none.
        text = json.dumps(entry, default=str, ensure_ascii=False, skipkeys=True)
        return text.encode(errors="replace")


def mask(number: str) -> str:
    """A phone number as logs may show it: ``+98912***4567``; of a short one less, of a very short one nothing."""
    if len(number) >= 13:
        return f"{number[:6]}***{number[-4:]}"
    if len(number) >= 8:
        return f"{number[:3]}***{number[-2:]}"
    return "***"


def describe(error: BaseException) -> str:
    """The types of an exception and its causes, innermost first, each with the places it came through."""
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        places = "".join(
            f"  {frame.filename}:{frame.lineno} in {frame.name}\n"
            for frame in traceback.extract_tb(current.__traceback__)
        )
        parts.append(f"{type(current).__qualname__}\n{places}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "".join(reversed(parts)).rstrip()


class _Forward(logging.Handler):
    """Hands the standard library's records to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        message = str(record.msg)
        # Who logs with the wrong arguments must not fail at that.
        with contextlib.suppress(Exception):
            message = record.getMessage()
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", message)
