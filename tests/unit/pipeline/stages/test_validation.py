"""The stage ``validation``."""

from __future__ import annotations

import json

import pytest

from pipeline.facts import Message
from pipeline.failures import Refused
from pipeline.stages.validation import Validation
from schemas import load
from tests.support.asgi import Exchange, Inner


async def validated(body: object) -> Message:
    inner = Inner()
    await Exchange(json.dumps(body).encode()).through(Validation(inner, load("request")))
    return inner.context[Message]


async def refusal(body: bytes) -> list[dict[str, str]]:
    """The errors of an INVALID_PAYLOAD."""
    inner = Inner()
    with pytest.raises(Refused, match="INVALID_PAYLOAD") as refused:
        await Exchange(body).through(Validation(inner, load("request")))
    assert inner.reached == []
    assert refused.value.details is not None
    errors: list[dict[str, str]] = refused.value.details["errors"]
    return errors


async def test_a_message_has_its_defaults() -> None:
    """A message is worth delivering for an hour and has no providers, unless the caller wrote otherwise."""
    assert await validated({"to": "+14155552671", "text": " x "}) == Message(
        "+14155552671", " x ", 3600, None
    )


@pytest.mark.parametrize(("written", "kept"), [(None, None), ([], ()), (["b", "A", "b"], ("b", "A", "b"))])
async def test_providers_are_kept_as_written(written: list[str] | None, kept: tuple[str, ...] | None) -> None:
    """Neither order, case nor repetition is touched: the envelope says what the caller wrote."""
    message = await validated({"to": "+14155552671", "text": "x", "providers": written})
    assert message.providers == kept


async def test_a_whole_number_may_be_written_with_a_fraction_of_zero() -> None:
    """JSON Schema counts 60.0 among the integers; the message has an integer all the same."""
    message = await validated({"to": "+14155552671", "text": "x", "ttl_seconds": 60.0})
    assert repr(message.ttl_seconds) == "60"


async def test_every_error_is_told() -> None:
    """Each broken rule is listed with its place, a message and the rule's name."""
    errors = await refusal(b'{"to": "+0", "text": "", "x": 1}')
    assert [(error["path"], error["rule"]) for error in errors] == [
        ("/text", "minLength"),
        ("/to", "pattern"),
        ("/x", "additionalProperties"),
    ]
    assert all(error["message"] for error in errors)


@pytest.mark.parametrize("body", [b"", b"{", b'{"to": "1", "to": "1"}', b'"\xff"'], ids=repr)
async def test_what_does_not_parse_is_one_error(body: bytes) -> None:
    """The place is the whole body, and the rule is JSON itself."""
    (error,) = await refusal(body)
    assert (error["path"], error["rule"]) == ("", "json")


@pytest.mark.parametrize("depth", [1, 199, 200, 600, 1000, 1020])
@pytest.mark.parametrize("member", ["to", "text", "providers", "ttl_seconds", "unknown"])
async def test_what_nests_is_refused_however_deeply(member: str, depth: int) -> None:
    """Neither the parser's depth nor that of what judges it makes a bug of it."""
    nested = b"[" * depth + b"1" + b"]" * depth
    errors = await refusal(b'{"to": "+14155552671", "text": "x", "%s": %s}' % (member.encode(), nested))
    assert errors
    assert all(error["rule"] for error in errors)
    assert len(json.dumps(errors)) < 2000


async def test_the_callers_text_is_not_repeated() -> None:
    """What was refused may be a secret; the answer tells the names of members, and never what they hold."""
    errors = await refusal(b'{"to": "hush-1", "text": 5, "providers": ["", "hush-2"], "extra": "hush-3"}')
    assert len(errors) == 4
    assert "hush" not in json.dumps(errors)
