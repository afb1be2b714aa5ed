"""A request's last steps on the store, made to happen in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway import retries
from gateway.retries import RetryingStore
from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, ClaimLost, StoreUnavailable
from tests.support.asgi import NOON
from tests.support.lines import Lines
from tests.support.scripted import ScriptedStore

CLAIM = Claim.on(Client("acme"), "key", b"\0" * 32)
TAKEN = Reservation("acme", NOON.date(), 5, 1, "token")

LAST_STEPS: dict[str, Callable[[RetryingStore], Awaitable[None]]] = {
    "complete": lambda store: store.complete(CLAIM, accepted(CLAIM.tracking_id)),
    "release": lambda store: store.release(CLAIM),
    "suspend": lambda store: store.suspend(CLAIM),
    "give_back": lambda store: store.give_back(TAKEN),
}


class Recovering(ScriptedStore):
    """Fails every step so many times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def _step(self, name: str, *arguments: object) -> None:
        super()._step(name, *arguments)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no answer")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 0.001)


async def settled(store: RetryingStore) -> None:
    """Wait until nothing is left to retry, and nothing is tried."""
    async with asyncio.timeout(5):
        while store._retrying is not None and not store._retrying.done():
            await asyncio.sleep(0.002)
    assert not store._waiting


async def turns() -> None:
    """Enough iterations of the event loop for what waits for nothing else."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.mark.parametrize("step", LAST_STEPS)
async def test_a_last_step_is_tried_until_it_succeeds(step: str) -> None:
    """The request is told of the failure at once; the step is taken again behind it, and once it succeeds no more."""
    scripted = Recovering(3)
    store = RetryingStore(scripted)
    with pytest.raises(StoreUnavailable):
        await LAST_STEPS[step](store)
    await settled(store)
    await asyncio.sleep(0.01)
    assert scripted.steps == [step] * 4
    await store.close()


@pytest.mark.parametrize("step", LAST_STEPS)
async def test_a_step_that_succeeds_is_taken_once(step: str) -> None:
    """Nothing is left to retry, and nothing runs in the background."""
    scripted = ScriptedStore()
    store = RetryingStore(scripted)
    await LAST_STEPS[step](store)
    await asyncio.sleep(0.01)
    assert scripted.steps == [step]


async def test_the_steps_that_go_forward_are_not_repeated() -> None:
    """Begin, arm and take are the request's own to judge."""
    scripted = ScriptedStore(arm=StoreUnavailable("x"))
    store = RetryingStore(scripted)
    assert await store.begin(CLAIM) == Begun()
    with pytest.raises(StoreUnavailable):
        await store.arm(CLAIM)
    assert isinstance(await store.take(Client("acme"), NOON.date(), "token", None), Reservation)
    await asyncio.sleep(0.01)
    assert scripted.steps == ["begin", "arm", "take"]


async def test_an_answer_whose_claim_has_gone_on_is_retried_no_more(lines: Lines) -> None:
    """The first try was carried out and its reply lost, or another request resumed the claim: neither is trouble."""

    class Lost(ScriptedStore):
        async def complete(self, claim: Claim, answer: Answer) -> None:
            await super().complete(claim, answer)
            raise StoreUnavailable("no answer") if len(self.steps) == 1 else ClaimLost

    scripted = Lost()
    store = RetryingStore(scripted)
    with pytest.raises(StoreUnavailable):
        await store.complete(CLAIM, accepted(CLAIM.tracking_id))
    await settled(store)
    assert scripted.steps == ["complete", "complete"]
    assert lines.all() == []


async def test_a_step_that_was_cancelled_is_retried_too() -> None:
    """A deadline that strikes while something is given back does not keep it."""
    go_on = asyncio.Event()

    class Slow(ScriptedStore):
        async def give_back(self, reservation: Reservation) -> None:
            await super().give_back(reservation)
            await go_on.wait()

    scripted = Slow()
    store = RetryingStore(scripted)
    giving = asyncio.create_task(store.give_back(TAKEN))
    await asyncio.sleep(0)
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    go_on.set()
    await settled(store)
    assert scripted.steps == ["give_back", "give_back"]


async def test_what_cannot_be_undone_in_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """After a while one warning about all of them is what is left."""
    monkeypatch.setattr(retries, "RETRY_SECONDS", 0.02)
    scripted = Recovering(10**6)
    given_up: list[str] = []
    store = RetryingStore(scripted, given_up.append)
    for step in LAST_STEPS.values():
        with pytest.raises(StoreUnavailable):
            await step(store)
    await settled(store)
    assert given_up == ["expired"] * 4
    line = lines.one()
    assert line["level"] == "WARNING"
    assert line["message"].startswith("4 steps on the store were not taken within 0.02 s")
    assert set(scripted.steps[4:]) == set(LAST_STEPS)


async def test_what_was_given_up_is_told_for_the_next_trouble_anew(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """A later outage has a count of its own."""
    monkeypatch.setattr(retries, "RETRY_SECONDS", 0)
    store = RetryingStore(Recovering(10**6))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.release(CLAIM)
        await settled(store)
    assert [line["message"][:8] for line in lines.all()] == ["1 steps "] * 2


async def test_a_bug_with_one_step_keeps_no_other_from_being_taken(lines: Lines) -> None:
    """It is told, and not tried again; what waited behind it is."""

    class Broken(Recovering):
        async def release(self, claim: Claim) -> None:
            await super().release(claim)
            raise TypeError("a bug")

    scripted = Broken(2)
    store = RetryingStore(scripted)
    for undo in (store.release(CLAIM), store.give_back(TAKEN)):
        with pytest.raises(StoreUnavailable):
            await undo
    await settled(store)
    assert scripted.steps == ["release", "give_back", "release", "give_back"]
    line = lines.one()
    assert line["level"] == "ERROR"
    assert "TypeError" in line["exception"]


async def test_steps_are_taken_in_turn() -> None:
    """A step that fails again is tried again after those behind it; one step is never tried twice at once."""
    scripted = Recovering(len(LAST_STEPS) + 1)
    store = RetryingStore(scripted)
    for step in LAST_STEPS.values():
        with pytest.raises(StoreUnavailable):
            await step(store)
    await settled(store)
    assert scripted.steps == [*LAST_STEPS, *LAST_STEPS, "complete"]


async def test_a_step_that_fails_on_and_on_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """One primary of a Cluster is away, and the steps on the others are taken before there is any pause."""
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(retries, "_LAST_CHANCE_SECONDS", 0.01)

    class Away(Recovering):
        async def release(self, claim: Claim) -> None:
            self.failures = 1
            await super().release(claim)

    scripted = Away(1)
    store = RetryingStore(scripted)
    with pytest.raises(StoreUnavailable):
        await store.release(CLAIM)
    for undo in range(3):
        scripted.failures = 1
        with pytest.raises(StoreUnavailable):
            await store.give_back(replace(TAKEN, token=str(undo)))
    await turns()
    assert scripted.steps == ["release", *["give_back"] * 3, "release", *["give_back"] * 3, "release"]
    assert len(store._waiting) == 1
    await store.close()


async def test_a_store_that_is_away_is_not_asked_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step once in a round, however short; and in a long one so many steps and no more."""
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(retries, "_LAST_CHANCE_SECONDS", 0.01)
    for most, tried in ((1000, len(LAST_STEPS)), (2, 2)):
        monkeypatch.setattr(retries, "_MOST_FAILED_IN_A_ROW", most)
        scripted = Recovering(10**6)
        store = RetryingStore(scripted)
        for step in LAST_STEPS.values():
            with pytest.raises(StoreUnavailable):
                await step(store)
        await turns()
        assert len(scripted.steps) == len(LAST_STEPS) + tried
        await store.close()


async def test_what_waits_to_be_retried_has_a_bound(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """A store that is away for long does not fill the memory. What finds no room is counted, and told now and then."""
    monkeypatch.setattr(retries, "_MOST_WAITING", 2)
    scripted = Recovering(12)
    given_up: list[str] = []
    store = RetryingStore(scripted, given_up.append)
    for step in [*LAST_STEPS.values()] * 3:
        with pytest.raises(StoreUnavailable):
            await step(store)
    told = lines.all()
    await settled(store)
    told += lines.all()
    assert scripted.steps == [*[*LAST_STEPS] * 3, "complete", "release"]
    assert given_up == ["full"] * 10
    assert [line["level"] for line in told] == ["WARNING"] * 2
    counts = [
        line["message"].partition(" steps on the store were given up, since 2 wait")[0] for line in told
    ]
    assert counts == ["1", "9"]


async def test_the_end_counts_the_step_that_hangs(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """A step that is being tried when the time is over still waits."""
    monkeypatch.setattr(retries, "_LAST_CHANCE_SECONDS", 0.02)

    class Hanging(Recovering):
        async def release(self, claim: Claim) -> None:
            await super().release(claim)
            await asyncio.Event().wait()

    store = RetryingStore(Hanging(1))
    with pytest.raises(StoreUnavailable):
        await store.release(CLAIM)
    await asyncio.sleep(0.01)
    await store.close()
    assert "1 steps on the store could not be taken" in lines.one()["message"]


async def test_the_end_gives_it_one_last_chance(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """What still waits when the process ends is told."""
    monkeypatch.setattr(retries, "_LAST_CHANCE_SECONDS", 0.02)
    lost = RetryingStore(Recovering(10**6))
    saved = RetryingStore(Recovering(2))
    for store in (lost, saved):
        with pytest.raises(StoreUnavailable):
            await store.release(CLAIM)
    await saved.close()
    assert lines.all() == []
    await lost.close()
    assert "1 steps on the store could not be taken" in lines.one()["message"]
