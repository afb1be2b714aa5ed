"""A retry in other words says the same."""

from __future__ import annotations

import json
import random

from pipeline import payload
from tests.faults.load import TEXT, reworded

BODY = json.dumps({"to": "+989120000007", "text": f"{TEXT} 7 …", "providers": ["a"]}).encode()


def test_other_words_are_the_same_value_in_other_bytes() -> None:
    words = {reworded(BODY, random.Random(seed)) for seed in range(200)}
    assert len(words) > 50
    assert all(json.loads(body) == json.loads(BODY) for body in words)
    assert len({payload.parse(body).fingerprint("POST", "/") for body in words}) == 1
