"""Random UUIDs."""

from __future__ import annotations

import re
import uuid

from pipeline.ids import random_token, random_uuid


def test_a_uuid_is_one_of_version_4() -> None:
    """As text, in its canonical form."""
    for _ in range(100):
        found = random_uuid()
        parsed = uuid.UUID(found)
        assert str(parsed) == found
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


def test_no_two_are_the_same() -> None:
    """They are random."""
    assert len({random_uuid() for _ in range(2000)}) == 2000


def test_a_token_has_64_bits() -> None:
    """As 16 hex digits, and no two are the same."""
    found = {random_token() for _ in range(2000)}
    assert len(found) == 2000
    assert all(re.fullmatch("[0-9a-f]{16}", token) for token in found)
