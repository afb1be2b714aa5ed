"""Every test of a store runs on each of them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from pipeline.facts import Client
from tests.contract.stores import ON_CLUSTERS, ON_SERVERS, STORES, Construct, OpenStore, Store
from tests.support.needs import params


@pytest.fixture(params=params(STORES, servers=ON_SERVERS, clusters=ON_CLUSTERS))
def construct(request: pytest.FixtureRequest) -> Construct:
    """Makes stores of one kind that share their data."""
    return STORES[request.param](request)


@pytest.fixture
async def open_store(construct: Construct) -> AsyncIterator[OpenStore]:
    """Opens stores that share their data, such as one whose leases are short."""
    opened: list[Store] = []

    async def open_one(**options: float) -> Store:
        store = construct(**options)  # type: ignore[arg-type]  # The seconds of a life are whole.
        await store.start()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """A store with the usual lease and life of answers."""
    return await open_store()


@pytest.fixture
def client() -> Client:
    """A client whom no other test knows; without a limit."""
    return Client(f"client {secrets.token_hex(8)}")
