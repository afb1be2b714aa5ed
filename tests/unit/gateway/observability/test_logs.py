"""Logs: one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest
from loguru import logger

from gateway.observability import logs
from tests.support.lines import Lines


def test_a_line_has_the_members_of_the_contract(lines: Lines) -> None:
    """Time in UTC, level, service and message, then what was bound to it."""
    before = datetime.now(UTC)
    logger.bind(tracking_id="t", latency_ms=1.5).info("send {}", "accepted")
    line = lines.one()
    time = datetime.fromisoformat(line.pop("timestamp"))
    assert before - timedelta(milliseconds=1) <= time <= datetime.now(UTC)
    assert line == {
        "level": "INFO",
        "service": "server-a",
        "message": "send accepted",
        "tracking_id": "t",
        "latency_ms": 1.5,
    }


def test_the_timestamp_is_rfc_3339_in_utc(lines: Lines) -> None:
    """Microseconds and ``Z``, as in every answer."""
    logger.info("x")
    stamp = lines.one()["timestamp"]
    assert datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) <= datetime.now(UTC)
    assert len(stamp) == 27


@pytest.mark.parametrize(
    "text", ["{", "{}", "{x}", "a\nb", '"', "<red>", "\u2028", "é", "\0", "%s"], ids=ascii
)
def test_a_message_is_written_as_it_is(lines: Lines, text: str) -> None:
    """Braces, line ends and markup in what a library says are data."""
    logger.info("{}", text)
    logging.getLogger("library").warning(text)
    assert [line["message"] for line in lines.all()] == [text, text]


def test_levels_below_the_configured_one_are_dropped(
    capfdbinary: pytest.CaptureFixture[bytes], lines: Lines
) -> None:
    """LOG_LEVEL counts for ours and for the libraries' lines."""
    logs.configure("server-a", "WARNING")
    logger.info("ours")
    logging.getLogger("library").info("theirs")
    logger.error("kept")
    assert lines.one()["message"] == "kept"


def test_the_libraries_lines_come_out_in_the_same_form(lines: Lines) -> None:
    """Uvicorn's and the others' loggers write JSON too, under their names."""
    logging.getLogger("uvicorn.error").warning("shutting %s", "down")
    line = lines.one()
    assert (line["level"], line["message"], line["logger"]) == ("WARNING", "shutting down", "uvicorn.error")


def test_one_line_is_written_for_each_request(lines: Lines) -> None:
    """Uvicorn's own access log would be a second one."""
    logging.getLogger("uvicorn.access").info("GET /")
    assert lines.all() == []


def test_a_level_of_its_own_passes(lines: Lines) -> None:
    """A library may log at a level that has no name here."""
    logging.getLogger("library").log(35, "odd")
    assert lines.one()["level"] == "Level 35"


def test_the_chatter_of_libraries_is_dropped(lines: Lines) -> None:
    """Asyncio and redis say what they do at every step; their warnings are kept."""
    for name in ("asyncio", "redis"):
        logging.getLogger(f"{name}.part").debug("chatter")
        logging.getLogger(f"{name}.part").warning("trouble")
    assert [line["message"] for line in lines.all()] == ["trouble"] * 2


def test_what_amqp_libraries_quote_is_not_logged(lines: Lines) -> None:
    """Their messages may hold a delivered body; what is worth knowing of a connection our own adapter tells."""
    for name in ("aiormq.channel", "aiormq", "pamqp"):
        logging.getLogger(name).warning("returned: %r", "the text of an SMS")
        logging.getLogger(name).error("frame: %r", "the text of an SMS")
    assert lines.all() == []


def test_the_servers_word_on_an_invalid_request_is_not_logged(lines: Lines) -> None:
    """Our protocol writes its own line, with the tracking_id; whatever else the server says is kept."""
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").warning("something else")
    assert lines.one()["message"] == "something else"


def test_an_exception_is_logged_without_its_words(lines: Lines) -> None:
    """Its type, its causes and where they came through, for a library may have quoted a secret in its words."""

    def inner() -> None:
        raise KeyError("the secret of it")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("another secret") from error
    except ValueError:
        logger.exception("it failed")
        logging.getLogger("library").exception("it failed there")
    for line in lines.all():
        assert "secret" not in json.dumps(line)
        described = line["exception"]
        assert described.index("KeyError") < described.index("in inner") < described.index("ValueError")


def test_a_line_without_an_exception_has_no_such_member(lines: Lines) -> None:
    """``exc_info=True`` outside of a handler is nothing to describe."""
    logging.getLogger("library").error("x", exc_info=True)  # noqa: LOG014 - as libraries do
    assert "exception" not in lines.one()


def test_causes_that_go_in_a_circle_end() -> None:
    """An exception that is its own cause is described once."""
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert logs.describe(one) == "KeyError\nValueError"


def test_a_suppressed_context_is_not_described() -> None:
    """``raise … from None`` says that what came before does not matter."""
    try:
        try:
            raise KeyError
        except KeyError:
            raise ValueError from None
    except ValueError as error:
        described = logs.describe(error)
    assert described.startswith("ValueError\n")
    assert "KeyError" not in described


def test_what_json_does_not_know_is_written_as_text(lines: Lines) -> None:
    """A bound object is no reason to lose a line."""
    logger.bind(when=timedelta(seconds=1), many={1}).info("x")
    line = lines.one()
    assert (line["when"], line["many"]) == ("0:00:01", "{1}")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+989121234567", "+98912***4567"),
        ("+14155552671", "+14***71"),
        ("+1234567", "+12***67"),
        ("+123456", "***"),
        ("", "***"),
    ],
)
def test_a_number_is_never_shown_whole(number: str, shown: str) -> None:
    """The contract's example, a short number, and one of which nothing can be shown."""
    assert logs.mask(number) == shown


def test_stdout_is_where_the_lines_go(lines: Lines) -> None:
    """A replaced ``sys.stderr`` stays clean."""
    logger.warning("x")
    assert lines.one()["message"] == "x"
    assert sys.stderr is not sys.stdout


@pytest.mark.parametrize("odd", ["\udce9", 2**70, {1: 2}, {"a": "\ud800"}, float("nan")], ids=ascii)
def test_no_line_is_lost(lines: Lines, odd: object) -> None:
    """What JSON cannot hold as it is is written in another form; the rest of the line stays."""
    logger.bind(tracking_id="t", odd=odd).info("x {}", odd)
    line = lines.one()
    assert line["tracking_id"] == "t"
    assert "odd" in line


def test_a_librarys_bad_call_does_not_fail_in_the_library(lines: Lines) -> None:
    """Who logs with the wrong arguments goes on, and the line is there with its template."""
    wrong = logging.LogRecord("library", logging.WARNING, __file__, 1, "%d of %d", ("one",), None)
    logs._Forward().emit(wrong)  # Not through a logger: pytest's own handler would raise.
    assert lines.one()["message"] == "%d of %d"


def test_the_line_of_a_request_is_what_loguru_would_write(lines: Lines) -> None:
    """It goes past the library, and nobody can tell."""
    extra = {"tracking_id": "t", "status": 202, "latency_ms": 1.25, "client": "é {}", "replayed": True}
    for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
        logger.bind(**extra).log(level, "send accepted")
        lines.log.write(level, "send accepted", extra)
        theirs, ours = lines.all()
        assert list(theirs) == list(ours)
        del theirs["timestamp"], ours["timestamp"]
        assert theirs == ours


def test_the_line_of_a_request_has_a_level(lines: Lines) -> None:
    """LOG_LEVEL counts for it too."""
    log = logs.configure("server-a", "WARNING")
    log.write("INFO", "send accepted", {})
    log.write("WARNING", "send refused", {})
    assert lines.one()["message"] == "send refused"


def test_uvicorn_never_traces_messages(lines: Lines) -> None:
    """On its level of trace it would wrap every request, and log the headers with the API key in them."""
    logs.configure("server-a", "TRACE")
    assert logging.getLogger("uvicorn.asgi").getEffectiveLevel() >= logging.DEBUG


def test_what_is_bound_does_not_hide_what_every_line_has(lines: Lines) -> None:
    """Service, level and time are ours to say."""
    logger.bind(service="x", level="x", timestamp="x").info("y")
    line = lines.one()
    assert (line["service"], line["level"]) == ("server-a", "INFO")
    assert line["timestamp"] != "x"
