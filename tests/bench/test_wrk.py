"""What wrk prints, and which answers count."""

from __future__ import annotations

import pytest

from tests.bench.wrk import Answers, WrongAnswers, parse

PRINTED = """Running 1s test @ http://127.0.0.1:8000/api/v1/sms/send
  1 threads and 16 connections
  1200 requests in 1.10s, 1.74MB read
Requests/sec:   1090.91
{"requests": 1200, "duration_us": 1100000, "p50_us": 662, "p99_us": 9354, "socket_errors": 0, "statuses": {"202": 1200}}
"""


def answers(statuses: dict[int, int], socket_errors: int = 0) -> Answers:
    return Answers(sum(statuses.values()), 1.0, 1.0, 2.0, statuses, socket_errors)


def test_figures_are_read_from_the_last_line() -> None:
    assert parse(PRINTED) == Answers(1200, 1.1, 0.662, 9.354, {202: 1200}, 0)


def test_output_without_figures_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_expected_answers_pass() -> None:
    answers({429: 3}).expect(429)


@pytest.mark.parametrize(
    ("statuses", "socket_errors", "told"),
    [({202: 5, 503: 1}, 0, "5 × 202, 1 × 503"), ({}, 0, "no answer"), ({202: 5}, 2, "2 socket errors")],
)
def test_any_other_answer_fails_the_case(statuses: dict[int, int], socket_errors: int, told: str) -> None:
    with pytest.raises(WrongAnswers, match=told):
        answers(statuses, socket_errors).expect(202)
