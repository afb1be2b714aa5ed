"""Claims and quotas in the file, besides what their contracts ask."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.store import EmbeddedStore
from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client
from pipeline.ports import (
    Begun,
    ClaimLost,
    QuotaExceeded,
    Replay,
    StoreUnavailable,
)
from tests.contract.outboxes import usable
from tests.support.embedded import (
    PATIENT_SECONDS,
    TODAY,
    locked,
)


async def test_an_answer_that_could_not_be_stored_in_time_is_stored_late(path: Path) -> None:
    database = Database(path)
    store, hasty = (EmbeddedStore(database, call_seconds=seconds) for seconds in (PATIENT_SECONDS, 0.1))
    await store.start()
    await usable(store)
    claim, retry = (Claim.on(Client("acme"), "key", b"x" * 32) for _ in range(2))
    await store.begin(claim)
    with locked(path), pytest.raises(StoreUnavailable):
        await hasty.complete(claim, accepted(claim.tracking_id))
    await usable(store)
    assert await store.begin(retry) == Replay(accepted(claim.tracking_id))
    await store.close()


async def test_over_the_limit_nothing_is_written(path: Path) -> None:
    """Who knocks at an empty quota costs no disk."""
    database = Database(path)
    store = EmbeddedStore(database, call_seconds=PATIENT_SECONDS)
    await store.start()
    await usable(store)
    assert database._writer is not None
    database._writer._housekeeping_at = time.monotonic() + 3600  # It writes.
    wal = path.with_name(path.name + "-wal")
    before = wal.stat().st_size
    for number in range(20):
        token = f"token-{number}"
        taken = await store.take(Client("acme", daily_quota=0), TODAY, token, None)
        assert taken == QuotaExceeded(0)
    claim = Claim.on(Client("acme"), "key", b"x" * 32)
    assert wal.stat().st_size == before
    await store.begin(claim)
    await store.complete(claim, Answer(422, b"{}"))
    before = wal.stat().st_size
    for _ in range(20):
        retry = Claim.on(Client("acme"), "key", b"x" * 32)
        assert await store.begin(retry) == Replay(Answer(422, b"{}"))
    assert wal.stat().st_size == before
    await store.close()


async def test_an_expired_claim_is_free_before_it_is_deleted(path: Path) -> None:
    """Nobody waits for the broom: an expired answer is not replayed, and an expired token holds nothing."""
    store = EmbeddedStore(Database(path), idempotency_ttl_seconds=0, call_seconds=PATIENT_SECONDS)
    await store.start()
    claims = [Claim.on(Client("acme"), "key", hashlib.sha256(payload).digest()) for payload in (b"1", b"2")]
    for claim in claims:
        assert await store.begin(claim) == Begun()
        with pytest.raises(ClaimLost):
            await store.arm(claim)
    await store.close()
