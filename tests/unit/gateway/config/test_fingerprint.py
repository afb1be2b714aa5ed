"""The fingerprint of a configuration."""

from __future__ import annotations

import hashlib

from gateway.config.fingerprint import fingerprint


def test_it_is_sha_256_over_canonical_json() -> None:
    """Sorted keys, no white space, UTF-8: anybody can compute it with a shell."""
    assert fingerprint({"b": [1, {"d": None, "c": "é"}], "a": True}) == (
        hashlib.sha256('{"a":true,"b":[1,{"c":"é","d":null}]}'.encode()).hexdigest()
    )


def test_the_order_of_members_does_not_matter_and_that_of_items_does() -> None:
    """Two gateways with the same file have one fingerprint; an order of aliases is part of it."""
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
