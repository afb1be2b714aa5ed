"""The broker that these tests talk to: it is played."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.amqp_peer import Peer, listening


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """It confirms nothing unless it is told to."""
    async with listening() as peer:
        yield peer
