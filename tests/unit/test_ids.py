"""Random UUIDs."""

from __future__ import annotations

import uuid

from pipeline.ids import random_uuid


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
