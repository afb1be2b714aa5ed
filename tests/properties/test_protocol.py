"""Whatever is interleaved, killed, late or lost: no message is promised and missing, doubled, or charged wrongly.

A model-based test of the protocol of docs/architecture.md. Hypothesis chooses what happens next to requests in two
gateway processes, over each real store and a broker of our own; ``scene`` says what must be true. `make test-all` tries
longer. For as long as it takes, each time with other examples:

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/properties
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway import retries
from gateway.dependency import Store
from gateway.embedded import writer
from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError
from gateway.embedded.store import EmbeddedStore
from gateway.redis.store import RedisStore
from pipeline.ports import StoreUnavailable
from pipeline.store_policy import ALLOW, REJECT
from tests.properties.cast import BODIES, KEYS, LIMITS, ORDERS, Attempt
from tests.properties.gates import Happens
from tests.properties.records import AHEAD, ENDED, EmbeddedRecords, Records, RedisRecords
from tests.properties.scene import Scene
from tests.support.needs import params
from tests.support.servers import RedisServer

# Time is the test's to tell: no lease, deadline or pause ends by itself.
NEVER_SECONDS = 86400.0

SETTINGS = settings(
    # Some mistakes show in one example of a hundred only.
    max_examples=2 * settings.default.max_examples if settings.default else 200,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
# A failing example is made small first, which takes Hypothesis up to five minutes.
pytestmark = [pytest.mark.model, pytest.mark.timeout(900 + 3 * SETTINGS.max_examples)]

Data = st.DataObject
T = TypeVar("T")

PROCESSES = st.sampled_from([0, 1])
STEPS = st.sampled_from(["begin", "take", "publish", "complete", "the end"])
"""How far a request gets without trouble."""
PAUSES = st.sampled_from(
    [
        "a moment",
        "the lease",
        "the lease, the clock being set back",
        "the lease and a switch of alpha",
        "midnight",
    ]
)
"""After what it is retried."""


@dataclass
class Place:
    """Where an example takes place: one store, opened by two processes, and a way to look into it."""

    loop: asyncio.AbstractEventLoop
    stores: list[Store]
    records: Records


def _one_of(data: Data, choices: Sequence[T]) -> T:
    """Drawn by name, so that an example can be read."""
    by_name = {repr(choice): choice for choice in choices}
    return by_name[data.draw(st.sampled_from(list(by_name)))]


class Protocol(RuleBasedStateMachine):
    """What may happen. The store keeps what it has."""

    place: ClassVar[Place]
    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.scene: Scene

    @initialize(order=st.sampled_from(list(ORDERS)), on_quota_error=st.sampled_from([REJECT, REJECT, ALLOW]))
    def open(self, order: str, on_quota_error: str) -> None:
        self.scene = Scene(
            self.place.loop,
            self.place.stores,
            self.place.records,
            order,
            on_quota_error,
            forgets=self.forgets,
        )

    @precondition(lambda self: self.scene.has_room())
    @rule(
        client=st.sampled_from(list(LIMITS)),
        key=st.sampled_from([KEYS[0], None, KEYS[1], None]),
        body=st.sampled_from(BODIES),
        process=PROCESSES,
        up_to=STEPS,
    )
    def send(self, client: str, key: str | None, body: str, process: int, up_to: str) -> None:
        self.scene.send(self.scene.clients[client], key, body, process, up_to)

    @precondition(lambda self: self.scene.has_room() and self.scene.keyed())
    @rule(data=st.data(), after=PAUSES, process=PROCESSES, up_to=STEPS)
    def retry(self, data: Data, after: str, process: int, up_to: str) -> None:
        """Perhaps after so long that the lease on the claim is over, or on another day, or with alpha (not) in use."""
        first = _one_of(data, self.scene.keyed())
        if "lease" in after and first.key is not None:
            self.scene.end_lease(first.client, first.key, AHEAD if "set back" in after else ENDED)
        if "alpha" in after:
            self.scene.switch_alpha()
        if after == "midnight":
            self.scene.midnight()
        self.scene.send(first.client, first.key, first.body, process, up_to)

    @precondition(lambda self: self.scene.calls())
    @rule(data=st.data())
    def reply(self, data: Data) -> None:
        self.scene.reply(_one_of(data, self.scene.calls()))

    @precondition(lambda self: self.scene.unanswered())
    @rule(data=st.data())
    def finish(self, data: Data) -> None:
        self.scene.finish(_one_of(data, self.scene.unanswered()))

    @precondition(lambda self: self.scene.publishes())
    @rule(data=st.data(), then=st.sampled_from([None, *Happens]))
    def refuse(self, data: Data, then: Happens | None) -> None:
        """The broker refuses a message; perhaps the store is lost as well."""
        call = _one_of(data, self.scene.publishes())
        self.scene.refuse(call)
        if then is not None and isinstance(call.caller, Attempt):
            self.scene.lose_store(call.caller.process.number, then)

    @precondition(lambda self: self.scene.calls())
    @rule(data=st.data(), happens=st.sampled_from(Happens))
    def fail(self, data: Data, happens: Happens) -> None:
        self.scene.fail(_one_of(data, self.scene.calls()), happens)

    @precondition(lambda self: self.scene.mortal())
    @rule(data=st.data(), happens=st.sampled_from(Happens))
    def expire(self, data: Data, happens: Happens) -> None:
        self.scene.expire(_one_of(data, self.scene.mortal()), happens)

    @precondition(lambda self: self.scene.calls())
    @rule(process=PROCESSES, happens=st.sampled_from(Happens))
    def kill(self, process: int, happens: Happens) -> None:
        self.scene.kill(process, happens)

    @precondition(lambda self: self.scene.calls())
    @rule(process=PROCESSES, happens=st.sampled_from(Happens))
    def lose_store(self, process: int, happens: Happens) -> None:
        self.scene.lose_store(process, happens)

    @precondition(lambda self: self.scene.late)
    @rule(data=st.data())
    def arrive(self, data: Data) -> None:
        self.scene.arrive(_one_of(data, self.scene.late))

    @precondition(lambda self: self.scene.is_busy())
    @rule()
    def come_to_rest(self) -> None:
        self.scene.come_to_rest()

    @invariant()
    def holds(self) -> None:
        self.scene.check()

    def teardown(self) -> None:
        """Every example comes to rest, unless something has gone wrong before."""
        if not hasattr(self, "scene"):
            return
        try:
            if sys.exception() is None:
                self.scene.come_to_rest()
        finally:
            self.scene.close()


class ForgetfulProtocol(Protocol):
    """What may happen when the store, besides, may lose all that it has."""

    forgets = True

    @rule()
    def forget(self) -> None:
        self.scene.forget()


@pytest.fixture
def redis_place(redis_server: RedisServer) -> Iterator[Place]:
    records = RedisRecords(redis_server.url)
    with contextlib.closing(records), asyncio.Runner() as runner:
        stores = [
            RedisStore(redis_server.url, lease_seconds=NEVER_SECONDS, call_seconds=60) for _ in range(2)
        ]
        with _open(runner, stores):
            yield Place(runner.get_loop(), list(stores), records)


@pytest.fixture
def embedded_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    path = tmp_path / "gateway.db"
    # Its thread draws pauses whenever it likes, and Hypothesis wants the module's own generator for itself.
    monkeypatch.setattr(writer, "random", random.Random())
    with asyncio.Runner() as runner:
        stores = [
            EmbeddedStore(Database(path), lease_seconds=NEVER_SECONDS, call_seconds=60) for _ in range(2)
        ]
        with _open(runner, stores), contextlib.closing(EmbeddedRecords(path)) as records:
            yield Place(runner.get_loop(), list(stores), records)


@contextlib.contextmanager
def _open(runner: asyncio.Runner, stores: Sequence[RedisStore | EmbeddedStore]) -> Iterator[None]:
    for store in stores:
        runner.run(_start(store))
    try:
        yield
    finally:
        for store in stores:
            runner.run(store.close())


async def _start(store: RedisStore | EmbeddedStore) -> None:
    """Return when it is connected: between steps the loop stands still, and a login would time out."""
    await store.start()
    while True:
        with contextlib.suppress(StoreUnavailable, DatabaseError):
            return await store.ping()
        await asyncio.sleep(0.05)


@pytest.fixture(params=params(["redis", "embedded"], servers={"redis"}))
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 0)
    found: Place = request.getfixturevalue(f"{request.param}_place")
    monkeypatch.setattr(Protocol, "place", found, raising=False)
    return found


def test_the_protocol_holds(place: Place) -> None:
    """Retries, kills, late workers, lost calls and replies, deadlines, a broker of every mood, and midnight."""
    run_state_machine_as_test(Protocol, settings=SETTINGS)


def test_the_protocol_holds_what_it_can_when_the_store_forgets(place: Place) -> None:
    """A message keeps its one tracking_id, and every answer is true, even then."""
    half = settings(SETTINGS, max_examples=SETTINGS.max_examples // 2)
    run_state_machine_as_test(ForgetfulProtocol, settings=half)
