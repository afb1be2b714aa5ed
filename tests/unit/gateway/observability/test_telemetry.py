"""What the pipeline tells, as metrics and as one log line for each request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.observability.metrics import Metrics
from gateway.observability.telemetry import GatewayTelemetry
from pipeline import codes
from pipeline.facts import Client, Message
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.ports import BrokerUnknown, ClaimLost, StoreUnavailable
from tests.support.asgi import Exchange
from tests.support.lines import Lines

ACME = Client("acme")
MESSAGE = Message("+989121234567", "the text", 60, ("hush",))


class Told:
    """A telemetry, and what came of it."""

    def __init__(self, lines: Lines) -> None:
        self.metrics = Metrics()
        self.telemetry = GatewayTelemetry(self.metrics, lines.log)
        self.lines = lines

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def answered(
        self, status: int, failure: NotAccepted | None = None, *facts: object, is_send: bool = True
    ) -> dict[str, Any]:
        """The log line of one request."""
        context = Exchange().context
        context.is_send = is_send
        for fact in facts:
            context.add(fact)
        self.telemetry.answered(context, status, failure)
        line = self.lines.one()
        assert line.pop("tracking_id") == context.tracking_id
        assert 0 <= line.pop("latency_ms") < 1000
        del line["timestamp"], line["service"]
        return line


@pytest.fixture
def told(lines: Lines) -> Told:
    return Told(lines)


async def test_an_accepted_send_is_one_line(told: Told) -> None:
    """With its client and a masked number, and without its text."""
    assert told.answered(202, None, ACME, MESSAGE) == {
        "level": "INFO",
        "message": "send accepted",
        "status": 202,
        "client": "acme",
        "to": "+98912***4567",
    }
    assert told.value("sms_send_requests_total") == 1
    assert told.value("sms_send_request_success_total") == 1
    assert told.value("sms_send_request_error_total") == 0
    assert told.value("sms_send_request_latency_seconds_count") == 1


async def test_a_refused_send_names_its_code_and_stage(told: Told) -> None:
    """What was wrong is found by code and stage; a client that is not known yet is not named."""
    failure = Refused(codes.UNAUTHORIZED)
    failure.stage = "auth"
    assert told.answered(401, failure) == {
        "level": "INFO",
        "message": "send refused",
        "status": 401,
        "error_code": "UNAUTHORIZED",
        "stage": "auth",
    }
    assert told.value("sms_send_requests_total") == told.value("sms_send_request_error_total") == 1
    assert told.value("sms_send_request_success_total") == 0


async def test_what_is_no_send_is_not_counted_as_one(told: Told) -> None:
    """Health checks and scrapes are logged for debugging only; an unknown path is worth a line."""
    assert told.answered(200, is_send=False)["level"] == "DEBUG"
    line = told.answered(404, Refused(codes.NOT_FOUND), is_send=False)
    assert (line["level"], line["message"], line["error_code"]) == ("INFO", "request refused", "NOT_FOUND")
    assert told.value("sms_send_requests_total") == 0


async def test_an_overload_is_counted_and_logged(told: Told) -> None:
    """Whoever is not let in has a line and an id all the same."""
    told.telemetry.overloaded("the id", Refused(codes.SERVICE_UNAVAILABLE), 0.0000125)
    line = told.lines.one()
    assert (line["level"], line["message"], line["status"]) == ("WARNING", "send refused", 503)
    assert (line["tracking_id"], line["error_code"]) == ("the id", "SERVICE_UNAVAILABLE")
    assert (line["cause"], line["latency_ms"]) == ("MAX_IN_FLIGHT", 0.013)
    assert told.value("sms_send_request_latency_seconds_sum") == 0.0000125
    assert told.value("sms_send_requests_total") == told.value("sms_send_request_error_total") == 1


async def test_the_key_is_shown_by_its_hint(told: Told) -> None:
    """And a replay is told from a first answer."""
    context = Exchange().context
    context.is_send = True
    context.api_key_hint = "sms_…"
    context.headers[b"idempotent-replayed"] = b"true"
    told.telemetry.answered(context, 202, None)
    line = told.lines.one()
    assert (line["client_api_key"], line["replayed"]) == ("sms_…", True)


async def test_a_bug_is_logged_with_its_places(told: Told) -> None:
    """The operators find the cause by tracking_id; the bug's own words, which may quote a message, stay out."""
    failure = Refused(codes.INTERNAL_ERROR)
    try:
        raise KeyError("the secret")
    except KeyError as error:
        failure.__cause__ = error
    line = told.answered(500, failure)
    assert line["level"] == "ERROR"
    assert "KeyError" in line["exception"]
    assert "test_telemetry.py" in line["exception"]
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (OutcomeUnknown(), BrokerUnknown("no confirm within 5 s")),
        (Refused(codes.SERVICE_UNAVAILABLE), StoreUnavailable("no answer within 250 ms")),
    ],
    ids=repr,
)
async def test_what_is_expected_to_fail_is_logged_with_its_reason(
    told: Told, failure: NotAccepted, cause: Exception
) -> None:
    """Our own words about store and broker are for people; a traceback would say less."""
    failure.__cause__ = cause
    line = told.answered(503, failure)
    assert line["cause"] == str(cause)
    assert "exception" not in line
    assert line["level"] == "WARNING"


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (OutcomeUnknown(), "WARNING"),
        (Refused(codes.SERVICE_UNAVAILABLE), "WARNING"),
        (Refused(codes.INTERNAL_ERROR), "ERROR"),
        (Refused(codes.TOO_MANY_REQUESTS), "INFO"),
        (Refused(codes.INVALID_PAYLOAD), "INFO"),
    ],
    ids=repr,
)
async def test_what_senders_cannot_mend_operators_see(told: Told, failure: NotAccepted, level: str) -> None:
    """A request's own mistakes are no news to them; a 503 is a warning even without a cause."""
    assert told.answered(failure.code.status, failure)["level"] == level


async def test_an_unknown_outcome_with_a_bug_behind_it_is_an_error(told: Told) -> None:
    """Its status hides no bug."""
    failure = OutcomeUnknown()
    failure.__cause__ = KeyError("x")
    assert told.answered(503, failure)["level"] == "ERROR"


async def test_a_refusal_of_a_stage_of_ones_own_needs_no_details(told: Told) -> None:
    """The code alone counts nothing by provider, and the line is written all the same."""
    failure = Refused(codes.PROVIDER_DISABLED)
    assert told.answered(409, failure, ACME)["error_code"] == "PROVIDER_DISABLED"
    disabled = "sms_request_rejected_provider_disabled_total"
    assert told.value(disabled, client="acme", provider="off") is None


@pytest.mark.parametrize(
    ("failure", "counted"),
    [
        (Refused(codes.UNKNOWN_PROVIDER), {"unknown": 1.0}),
        (Refused(codes.NO_PROVIDER_AVAILABLE), {"none": 1.0}),
        (Refused(codes.PROVIDER_DISABLED, details={"providers": ["off"]}), {"off": 1.0}),
        (
            Refused(codes.ALL_PROVIDERS_DISABLED, details={"providers": ["off", "down"]}),
            {"off": 1.0, "down": 1.0},
        ),
        (Refused(codes.TOO_MANY_REQUESTS), {}),
    ],
    ids=repr,
)
async def test_refusals_of_the_gate_are_counted_by_client(
    told: Told, failure: Refused, counted: dict[str, float]
) -> None:
    """And by provider, where it was one that is configured; never by what the caller wrote."""
    told.answered(failure.code.status, failure, ACME)
    disabled = "sms_request_rejected_provider_disabled_total"
    found = {
        "unknown": told.value("sms_request_rejected_unknown_provider_total", client="acme"),
        "none": told.value("sms_request_rejected_no_provider_available_total", client="acme"),
        "off": told.value(disabled, client="acme", provider="off"),
        "down": told.value(disabled, client="acme", provider="down"),
    }
    assert {name: value for name, value in found.items() if value is not None} == counted
    assert b"hush" not in told.metrics.exposition("")[0]


async def test_stages_are_measured_by_their_time(told: Told) -> None:
    """Each by its own stopwatch."""
    told.telemetry.stopwatch("quota")(0.001)
    told.telemetry.stopwatch("auth")(0.002)
    assert told.value("sms_stage_duration_seconds_sum", stage="auth") == 0.002
    assert told.value("sms_stage_duration_seconds_count", stage="quota") == 1


async def test_a_refusal_is_counted_for_its_stage(told: Told) -> None:
    """With the code that the sender got; one from outside any stage has none."""
    failure = Refused(codes.TOO_MANY_REQUESTS)
    told.answered(429, failure)
    assert b"sms_stage_refusals_total{" not in told.metrics.exposition("")[0]
    failure.stage = "quota"
    told.answered(429, failure)
    assert told.value("sms_stage_refusals_total", stage="quota", code="TOO_MANY_REQUESTS") == 1


async def test_what_failed_after_the_confirm_refused_nobody(told: Told) -> None:
    """The sender has their 202."""
    failure = OutcomeUnknown()
    failure.stage = "publish"
    told.answered(202, failure)
    assert b"sms_stage_refusals_total{" not in told.metrics.exposition("")[0]


async def test_replays_are_counted(told: Told) -> None:
    """Stored answers sent again have a counter of their own."""
    told.telemetry.replayed()
    assert told.value("sms_replays_total") == 1


@pytest.mark.parametrize(
    ("operation", "counted", "words"),
    [
        ("begin", "sms_store_passed_over_total", "goes on without it"),
        ("arm", "sms_store_passed_over_total", "goes on without it"),
        ("take", "sms_store_passed_over_total", "goes on without it"),
        ("complete", "sms_store_deferred_total", "tried again"),
        ("release", "sms_store_deferred_total", "tried again"),
        ("suspend", "sms_store_deferred_total", "tried again"),
        ("give_back", "sms_store_deferred_total", "tried again"),
    ],
)
async def test_a_step_of_the_store_that_failed_is_counted_and_warned_of(
    told: Told, operation: str, counted: str, words: str
) -> None:
    """As left out, or as left to be tried again; the log has the reason and the request it concerns."""
    context = Exchange().context
    told.telemetry.store_failed(context, "quota", operation, StoreUnavailable("no answer"))
    line = told.lines.one()
    assert (line["level"], line["stage"], line["cause"]) == ("WARNING", "quota", "no answer")
    assert line["tracking_id"] == context.tracking_id
    assert operation in line["message"]
    assert words in line["message"]
    for name in ("sms_store_passed_over_total", "sms_store_deferred_total"):
        value = told.value(name, stage="quota", operation=operation)
        assert value == (1 if name == counted else None)


async def test_a_failure_without_words_is_told_by_its_kind(told: Told) -> None:
    """A lost claim says nothing of itself; the log says that the step came too late, not that it was left out."""
    told.telemetry.store_failed(Exchange().context, "idempotency", "complete", ClaimLost())
    line = told.lines.one()
    assert line["cause"] == "ClaimLost"
    assert "came too late" in line["message"]
    assert "goes on" not in line["message"]
