"""Logs: one JSON object a line on stdout, ours and the libraries' alike.

What is never logged: a message's text, a whole API key, a whole number. So an exception is logged with its type and
where it was raised, but without its own words, in which a library may have quoted any of these.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

from gateway.observability.stdout import Stdout
from pipeline.timing.timestamps import OPTION, in_json, timestamp

if TYPE_CHECKING:
    import loguru

_STDOUT = 1
_LAST_CHANCE_SECONDS = 1.0


class Log:
    """The log of this process. ``dropped`` counts the lines that its reader left no room for."""

    def __init__(self, service: str, level: str) -> None:
        self._service = service
        self._least = logger.level(level).no
        self._levels = {name: logger.level(name).no for name in ("DEBUG", "INFO", "WARNING", "ERROR")}
        self._stdout = Stdout(_STDOUT, self._missing)

    @property
    def dropped(self) -> int:
        """How many lines were dropped."""
        return self._stdout.dropped

    def write(self, level: str, message: str, extra: Mapping[str, object]) -> None:
        """Write what ``logger.bind(**extra).log(level, message)`` would, for a fifth of its cost.

        ``level`` is DEBUG, INFO, WARNING or ERROR; ``extra`` holds what JSON knows, and nothing that every line has.
        """
        if self._levels[level] >= self._least:
            line = {
                "timestamp": in_json(datetime.now(UTC)),
                "level": level,
                "service": self._service,
                "message": message,
                **extra,
            }
            self._stdout.write(orjson.dumps(line, option=OPTION | orjson.OPT_APPEND_NEWLINE))

    def sink(self, line: loguru.Message) -> None:
        """Take what loguru hands over."""
        record = line.record
        extra: Mapping[str, object] = record["extra"]
        if record["exception"] is not None and record["exception"].value is not None:
            extra = {**extra, "exception": describe(record["exception"].value)}
        self._write(record["time"].astimezone(UTC), record["level"].name, record["message"], extra)

    def flush(self, seconds: float = 0) -> None:
        """Write what is still in memory, as far as its reader takes it within so many seconds."""
        self._stdout.flush(seconds)

    def forget(self) -> None:
        """In a process that was forked: leave what is still in memory to the one that has logged it."""
        self._stdout.forget()

    def _write(self, time: datetime, level: str, message: str, extra: Mapping[str, object]) -> None:
        own = {"timestamp": timestamp(time), "level": level, "service": self._service, "message": message}
        # What is bound never hides what every line has.
        self._stdout.write(_to_json({**own, **extra, **own}) + b"\n")

    def _missing(self, lines: int) -> bytes:
        own = {"timestamp": timestamp(datetime.now(UTC)), "level": "WARNING", "service": self._service}
        message = f"{lines} log lines were dropped: their reader did not keep up"
        return _to_json({**own, "message": message}) + b"\n"


def configure(service: str, level: str) -> Log:
    """Send every log line of this process to stdout as JSON; ``level`` is a name that loguru knows."""
    log = Log(service, level)
    logger.remove()
    logger.add(log.sink, level=level, format="{message}", backtrace=False, diagnose=False)
    atexit.register(log.flush, _LAST_CHANCE_SECONDS)
    # Never below DEBUG: on its level of trace uvicorn would log every header, and so every API key.
    standard_level = max(logging.DEBUG, logger.level(level).no)
    logging.basicConfig(handlers=[_Forward()], level=standard_level, force=True)
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
    return log


def _to_json(entry: Mapping[str, Any]) -> bytes:
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
