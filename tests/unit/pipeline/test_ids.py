"""Random UUIDs."""

from __future__ import annotations

import os
import re
import threading
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


def test_threads_share_none() -> None:
    """Though they draw from one pool."""
    found: list[str] = []

    def draw() -> None:
        found.extend([random_token() for _ in range(5000)])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 40_000


def test_a_forked_child_draws_others_than_its_parent() -> None:
    """What was drawn in advance before the fork is nobody's but the parent's."""
    random_token()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, random_token().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    for end in (reading, writing):
        os.close(end)
    assert len(theirs) == 16
    assert theirs not in {random_token() for _ in range(1000)}
