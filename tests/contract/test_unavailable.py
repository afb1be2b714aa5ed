"""What a store says of a step that it did not carry out in time: whether it may be done all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.store import EmbeddedStore
from gateway.redis.store import RedisStore
from pipeline.answer import accepted
from pipeline.facts import Client
from pipeline.ports import StoreUnavailable
from tests.contract.outboxes import locked
from tests.contract.stores import TODAY, Store, claim_on, used_by
from tests.support.servers import RedisServer, exchange, free_port
from tests.support.waiting import once_served


@contextlib.asynccontextmanager
async def running(store: Store) -> AsyncIterator[None]:
    await store.start()
    try:
        yield
    finally:
        await store.close()


async def test_what_redis_was_not_sent_is_certainly_not_done(client: Client) -> None:
    """There is no connection: nothing need be undone."""
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/", call_seconds=5)
    with pytest.raises(StoreUnavailable) as not_started:
        await store.take(client, TODAY, "token", None)
    assert not not_started.value.may_be_done
    async with running(store):
        # The first waits for the attempt to connect, the second is refused at once.
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as not_connected:
                await store.take(client, TODAY, "token", None)
            assert not not_connected.value.may_be_done


async def test_what_redis_does_not_answer_may_be_done(redis_server: RedisServer, client: Client) -> None:
    """It is, here: the server was busy, and carries the step out as soon as it can."""
    store = RedisStore(redis_server.url, call_seconds=1.0)
    async with running(store):
        await _ready(store)
        # The server knows the script from here on: what it is sent next is one command.
        assert await used_by(store, client) == 0
        exchange(redis_server.port, b"CLIENT PAUSE 1500 ALL\r\n")
        with pytest.raises(StoreUnavailable, match="no answer within 1000 ms") as unknown:
            await store.take(client, TODAY, "token", None)
        assert unknown.value.may_be_done
        await asyncio.sleep(0.5)
        await _ready(store)
        assert await used_by(store, client) == 1


async def test_what_waits_for_a_locked_file_is_certainly_not_done(tmp_path: Path, client: Client) -> None:
    """It is withdrawn, and stays so when the file is free again."""
    store = EmbeddedStore(Database(tmp_path / "gateway.db"), call_seconds=0.2)
    async with running(store):
        await _ready(store)
        with locked(tmp_path / "gateway.db"), pytest.raises(StoreUnavailable) as withdrawn:
            await store.take(client, TODAY, "token", None)
        assert not withdrawn.value.may_be_done
        await _ready(store)
        assert await used_by(store, client) == 0


async def test_an_answer_that_waits_for_a_locked_file_may_be_kept(tmp_path: Path, client: Client) -> None:
    """The message is published: its answer is stored as soon as it can be, though nobody waits for it."""
    store = EmbeddedStore(Database(tmp_path / "gateway.db"), call_seconds=0.2)
    claim = claim_on(client)
    async with running(store):
        await _ready(store)
        await store.begin(claim)
        with locked(tmp_path / "gateway.db"), pytest.raises(StoreUnavailable) as waiting:
            await store.complete(claim, accepted(claim.tracking_id))
        assert waiting.value.may_be_done


async def _ready(store: Store) -> None:
    await once_served(store.ping, StoreUnavailable)
