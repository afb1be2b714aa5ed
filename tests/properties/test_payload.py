"""Bodies: what makes two of them the same, and what makes one of them broken."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.payload import parse
from tests.properties.json_values import REQUESTS, TEXTS, VALUES, written

REQUEST = ("POST", "/api/v1/sms/send")


def fingerprint(raw: bytes) -> bytes:
    return parse(raw).fingerprint(*REQUEST)


def shuffled(value: Any, randomness: random.Random) -> Any:
    """The same value with its members in another order."""
    if isinstance(value, list):
        return [shuffled(item, randomness) for item in value]
    if isinstance(value, dict):
        members = [(key, shuffled(item, randomness)) for key, item in value.items()]
        randomness.shuffle(members)
        return dict(members)
    return value


@given(REQUESTS | VALUES)
def test_what_is_written_is_parsed(value: Any) -> None:
    """Any JSON value comes through as the parser of the standard library reads it."""
    parsed = parse(json.dumps(value).encode())
    assert parsed.problem is None
    assert parsed.document == json.loads(json.dumps(value))


@given(REQUESTS | VALUES, st.randoms(use_true_random=False), st.sampled_from([None, 0, 3]), st.booleans())
def test_how_it_is_written_does_not_matter(
    value: Any, randomness: random.Random, indent: int | None, ascii_only: bool
) -> None:
    """Order of members, white space and escapes leave the fingerprint as it is."""
    other = written(shuffled(value, randomness), indent, ascii_only)
    assert fingerprint(written(value, None, False)) == fingerprint(other)


@given(REQUESTS | VALUES, REQUESTS | VALUES)
def test_another_value_is_another_payload(one: Any, other: Any) -> None:
    """Two fingerprints are the same only when the values are."""
    raw, other_raw = (orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in (one, other))
    assert (fingerprint(raw) == fingerprint(other_raw)) == (raw == other_raw)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), st.data())
def test_any_change_of_a_member_is_another_payload(document: dict[str, Any], data: st.DataObject) -> None:
    """Its name, its value, its absence: each change shows."""
    name = data.draw(st.sampled_from(sorted(document)))
    change = data.draw(st.sampled_from(["drop", "rename", "replace"]))
    changed = dict(document)
    value = changed.pop(name)
    if change == "rename":
        new_name = data.draw(TEXTS)
        assume(new_name not in document)
        changed[new_name] = value
    elif change == "replace":
        changed[name] = data.draw(VALUES)
        assume(json.dumps(changed[name], sort_keys=True) != json.dumps(value, sort_keys=True))
    assert fingerprint(json.dumps(document).encode()) != fingerprint(json.dumps(changed).encode())


@given(TEXTS, VALUES, VALUES, st.booleans(), st.lists(st.sampled_from("ol"), max_size=6), st.booleans())
def test_a_member_twice_is_refused_at_any_depth(
    name: str, one: Any, other: Any, is_escaped: bool, nesting: list[str], has_company: bool
) -> None:
    """Inside objects and lists, with equal values or others, however the second name is spelled."""
    second = "".join(f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else letter for letter in name)
    second = f'"{second}"' if is_escaped else json.dumps(name)
    company = '"another:":0,' if has_company and name != "another:" else ""
    text = f"{{{company}{json.dumps(name)}:{json.dumps(one)},{second}:{json.dumps(other)}}}"
    for kind in nesting:
        text = f'{{"in":{text}}}' if kind == "o" else f"[0,{text}]"
    parsed = parse(text.encode())
    assert parsed.problem is not None
    assert parsed.document is None


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_answered(raw: bytes) -> None:
    """Whatever arrives is parsed or has a problem, and has a fingerprint."""
    parsed = parse(raw)
    assert parsed.raw == raw
    assert len(parsed.fingerprint(*REQUEST)) == 32
    if parsed.problem is None:
        json.loads(raw)


@given(st.integers(1, 8000), st.sampled_from(["[", '{"a":', '[{"a":']), st.booleans())
def test_any_depth_is_answered(depth: int, opening: str, is_whole: bool) -> None:
    """However deep it is nested, a body is parsed or has a problem, and has a fingerprint."""
    closing = {"[": "]", '{"a":': "}", '[{"a":': "}]"}[opening]
    raw = (opening * depth + "1" + (closing * depth if is_whole else "")).encode()
    assert len(fingerprint(raw)) == 32
