"""Which cases a command line asks for, and for how long."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import _parser, plan_of
from tests.bench.cases import BROKER_CASES, CASES
from tests.bench.run import Plan


def plan(*words: str) -> Plan:
    return plan_of(_parser().parse_args(words))


def test_everything_is_measured_unless_cases_are_named() -> None:
    assert plan() == Plan(CASES, (1, 16, 64, 256), 2, 3)
    named = plan("--case", "quota", "--case", "auth", "--connections", "4")
    assert [case.name for case in named.cases] == ["quota", "auth"]
    assert (named.connections, named.overhead_batches) == ((4,), 0)


def test_the_overhead_can_be_measured_alone() -> None:
    alone = plan("--case", "pipeline-overhead")
    assert (alone.cases, alone.overhead_batches) == ((), 15)


def test_a_case_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(LookupError, match=r"'quotas'.* fresh-key, .*overload"):
        plan("--case", "quotas")


def test_short_still_takes_every_case() -> None:
    short = plan("--short")
    assert short.cases == CASES
    assert short.seconds_of_load() <= 60


def test_the_broker_is_measured_on_both_kinds_of_queue() -> None:
    assert [case.name for case in plan("--broker").cases] == [case.name for case in BROKER_CASES]


def test_other_gateways_are_run_only_when_asked_for() -> None:
    assert not plan().peers
    assert not plan("--short").peers
    assert plan("--short", "--peers").peers
    assert plan("--peers").seconds_of_load() > plan().seconds_of_load()


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
