"""The two engines that read the schemas agree on every instance."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import load, names
from tests.properties.json_values import BY_SCHEMA, REQUESTS, VALUES, strings_in


def test_every_schema_has_instances_to_try() -> None:
    """A schema that is added is tried, too."""
    assert sorted(BY_SCHEMA) == names()


@pytest.mark.parametrize("name", names())
@given(data=st.data())
def test_an_instance_is_refused_exactly_when_it_is_explained(name: str, data: st.DataObject) -> None:
    """One engine says whether, the other says why: violations are there if and only if it is invalid."""
    instance = data.draw(BY_SCHEMA[name] | VALUES)
    schema = load(name)
    assert schema.is_valid(instance) == (not schema.violations(instance))


@pytest.mark.parametrize("name", names())
@given(data=st.data())
def test_the_short_way_leads_to_the_same_explanation(name: str, data: st.DataObject) -> None:
    """Asking the fast engine first spares time and changes nothing."""
    instance = data.draw(BY_SCHEMA[name] | VALUES)
    schema = load(name)
    assert schema.violations_unless_valid(instance) == schema.violations(instance)


@pytest.mark.parametrize("name", ["request", "accepted", "error", "envelope", "heartbeat"])
@given(data=st.data())
def test_both_engines_explain_alike(name: str, data: st.DataObject) -> None:
    """Which of them is asked nobody can tell."""
    instance = data.draw(BY_SCHEMA[name] | VALUES)
    schema = load(name)
    assert schema.violations_fast(instance) == schema.violations(instance)


@given(REQUESTS | VALUES)
def test_what_the_parser_gives_is_judged_alike(instance: Any) -> None:
    """Not only Python's own values, but what comes out of the parser that serves."""
    schema = load("request")
    parsed = orjson.loads(json.dumps(instance))
    assert schema.is_valid(parsed) == (not schema.violations(parsed))


@pytest.mark.parametrize("name", names())
@given(data=st.data())
def test_no_explanation_repeats_the_instance(name: str, data: st.DataObject) -> None:
    """Whatever was refused may be a secret: a message is the same for all instances that break the rule there."""
    instance = data.draw(BY_SCHEMA[name] | VALUES)
    marked = {text: f"hush {number} {text}" for number, text in enumerate(sorted(strings_in(instance)))}

    def mark(value: Any) -> Any:
        if isinstance(value, str):
            return marked[value]
        if isinstance(value, list):
            return [mark(item) for item in value]
        if isinstance(value, dict):
            return {key: mark(item) for key, item in value.items()}
        return value

    for violation in load(name).violations(mark(instance)):
        assert "hush" not in violation.message
        assert "hush" not in violation.rule


@pytest.mark.parametrize("name", names())
@given(data=st.data())
def test_explanations_are_in_order_and_without_repetition(name: str, data: st.DataObject) -> None:
    """The same instance is always told the same, in the order of the places, each thing once."""
    instance = data.draw(BY_SCHEMA[name])
    first, second = load(name).violations(instance), load(name).violations(instance)
    assert first == second
    assert len(set(first)) == len(first)
    assert [violation.pointer for violation in first] == sorted(violation.pointer for violation in first)
