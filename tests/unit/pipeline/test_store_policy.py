"""What a stage does when the store fails it."""

from __future__ import annotations

import pytest

from pipeline.failures import Refused
from pipeline.ports import StoreUnavailable
from pipeline.store_policy import StorePolicy
from tests.support.asgi import Ears, Exchange

DOWN = StoreUnavailable("no answer")


async def test_a_policy_of_reject_refuses_the_request() -> None:
    """The refusal says that nothing was sent and when to come back, and keeps the cause for the log."""
    ears = Ears()
    with pytest.raises(Refused, match="SERVICE_UNAVAILABLE") as refused:
        StorePolicy("quota", "reject", ears).judge(Exchange().context, "take", DOWN)
    assert refused.value.retry_after == 1
    assert refused.value.__cause__ is DOWN
    assert ears.store_failures == []


async def test_a_policy_of_allow_tells_and_goes_on() -> None:
    """The request is served without the step, and that is counted and logged."""
    ears = Ears()
    StorePolicy("quota", "allow", ears).judge(Exchange().context, "take", DOWN)
    assert ears.store_failures == [("quota", "take", "StoreUnavailable")]


async def test_a_step_that_changes_nothing_any_more_is_only_told() -> None:
    """Even under ``reject``, what fails after the answer is decided does not change it."""
    ears = Ears()
    StorePolicy("quota", "reject", ears).note(Exchange().context, "give_back", DOWN)
    assert ears.store_failures == [("quota", "give_back", "StoreUnavailable")]


@pytest.mark.parametrize("word", ["", "Reject", "ignore", True, ["reject"]])
def test_any_other_word_is_refused(word: str) -> None:
    """The error says which two words there are."""
    with pytest.raises(ValueError, match="must be 'reject' or 'allow'"):
        StorePolicy("quota", word, Ears())
