"""The stage ``idempotency``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from starlette.types import Receive, Scope, Send

from gateway.embedded.database import Database
from gateway.embedded.store import EmbeddedStore
from pipeline import codes
from pipeline.answer import Answer, accepted
from pipeline.codes import Code
from pipeline.facts import Claim, Client
from pipeline.failures import NotAccepted, OutcomeUnknown, Refused
from pipeline.ports import Begun, ClaimLost, InProgress, OtherPayload, Replay, StoreUnavailable
from pipeline.stages.idempotency import Idempotency, parse_key
from tests.support.asgi import JSON, Ears, Exchange, Inner, StandingClock
from tests.support.scripted import ScriptedStore

ACME = Client("acme")
KEYED = JSON | {"idempotency-key": "key-1"}
VERDICT = Refused(codes.UNKNOWN_PROVIDER, details={"unknown": ["x"], "allowed": ["up"]})
RESUMED = Begun(armed=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = EmbeddedStore(Database(tmp_path / "gateway.db"), call_seconds=30)
    await opened.start()
    yield opened
    await opened.close()


def stage(
    store: EmbeddedStore | ScriptedStore,
    inner: Inner,
    *,
    ears: Ears | None = None,
    on_store_error: str = "reject",
) -> Idempotency:
    return Idempotency(inner, store, StandingClock(), ears or Ears(), on_store_error)


async def refused_by(idempotency: Idempotency, exchange: Exchange | None = None) -> NotAccepted:
    with pytest.raises(NotAccepted) as raised:
        await (exchange or Exchange(headers=KEYED)).through(idempotency, ACME)
    return raised.value


async def test_without_a_key_there_is_no_claim() -> None:
    """Nothing is asked of the store, and the body is left unread."""
    store, inner = ScriptedStore(), Inner()
    exchange = await Exchange().through(stage(store, inner), ACME)
    assert exchange.status == 202
    assert store.calls == []
    assert inner.context.get(Claim) is None
    assert len(exchange.incoming) == 1


async def test_a_claim_is_begun_held_and_completed_before_the_answer_leaves() -> None:
    """When the 202 leaves, the store has it already: whoever retries it gets the same."""
    store, inner = ScriptedStore(), Inner()
    exchange = Exchange(headers=KEYED)
    sent_at: list[int] = []

    async def send(message: object) -> None:
        sent_at.append(len(store.calls))

    exchange.context.add(ACME)
    with exchange.context.deadline:
        await stage(store, inner)(exchange.scope, exchange.receive, send)
    claim = inner.context[Claim]
    assert store.calls == [("begin", claim), ("complete", claim, accepted(claim.tracking_id))]
    assert sent_at == [2, 2]
    assert exchange.context.tracking_id == claim.tracking_id


async def test_a_retry_is_replayed_byte_for_byte(store: EmbeddedStore) -> None:
    """The inner app runs once; the second answer is the first one, marked as a replay."""
    inner, ears = Inner(), Ears()
    idempotency = stage(store, inner, ears=ears)
    first, second = [await Exchange(headers=KEYED).through(idempotency, ACME) for _ in range(2)]
    assert len(inner.reached) == 1
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert b"idempotent-replayed" not in first.context.headers
    assert second.context.headers == {b"idempotent-replayed": b"true"}
    assert second.context.tracking_id == first.context.tracking_id == first.json["tracking_id"]
    assert ears.replays == 1


async def test_a_verdict_on_the_payload_is_replayed(store: EmbeddedStore) -> None:
    """A refusal that answers this very payload is stored as it was sent, time stamp and details included."""
    failure = await refused_by(stage(store, Inner(VERDICT)))
    inner = Inner()
    second = await Exchange(headers=KEYED).through(stage(store, inner), ACME)
    assert inner.reached == []
    assert second.status == 422
    assert second.body == failure.answer("", StandingClock().now()).body
    assert second.json["tracking_id"] == second.context.tracking_id


@pytest.mark.parametrize(
    "code",
    [code for code in codes.ALL if not code.is_verdict and code.status != 400],
    ids=lambda code: code.name,
)
async def test_a_refusal_of_the_moment_is_not_kept(store: EmbeddedStore, code: Code) -> None:
    """After 401, 408, 413, 429 and any 5xx the retry is judged anew, and may succeed."""
    await refused_by(stage(store, Inner(Refused(code))))
    assert (await Exchange(headers=KEYED).through(stage(store, Inner()), ACME)).status == 202


@pytest.mark.parametrize("first", ["accepted", "refused", "in_progress"])
async def test_another_payload_under_the_key_is_refused(
    first: Literal["accepted", "refused", "in_progress"],
) -> None:
    """The first message's answer must not be taken for the second one's; what became of the first is told."""
    inner = Inner()
    failure = await refused_by(stage(ScriptedStore(begin=OtherPayload(first)), inner))
    assert failure.code is codes.IDEMPOTENCY_KEY_REUSED
    assert failure.details == {"first": first}
    assert inner.reached == []


@pytest.mark.parametrize("headers", [JSON, KEYED], ids=["no key", "key"])
async def test_a_deferred_refusal_is_raised_before_anything_else_happens(
    store: EmbeddedStore, headers: dict[str, str]
) -> None:
    """With a key and without; the claim is settled by it like by one of an inner stage."""
    for outcome in ("refused", "replayed or refused again"):
        inner, exchange = Inner(), Exchange(headers=headers)
        exchange.context.defer(Refused(codes.PROVIDER_DISABLED))
        failure = await refused_by(stage(store, inner), exchange)
        assert failure.code is codes.PROVIDER_DISABLED, outcome
        assert inner.reached == []


async def test_without_the_store_a_deferred_refusal_stands() -> None:
    """Where the store may fail, nobody knows of an earlier request."""
    inner, exchange = Inner(), Exchange(headers=KEYED)
    exchange.context.defer(Refused(codes.PROVIDER_DISABLED))
    broken = stage(ScriptedStore(begin=StoreUnavailable("no answer")), inner, on_store_error="allow")
    assert (await refused_by(broken, exchange)).code is codes.PROVIDER_DISABLED
    assert inner.reached == []


async def test_what_may_be_on_the_queue_lifts_a_deferred_refusal() -> None:
    """And so does a stored answer: whoever was accepted is never told that they were refused."""
    for found, reached in ((RESUMED, 1), (Replay(accepted("x")), 0)):
        inner, exchange = Inner(), Exchange(headers=KEYED)
        exchange.context.defer(Refused(codes.PROVIDER_DISABLED))
        await exchange.through(stage(ScriptedStore(begin=found), inner), ACME)
        assert exchange.status == 202
        assert len(inner.reached) == reached


async def test_another_clients_key_is_another_key(store: EmbeddedStore) -> None:
    """Two clients may choose the same key without learning of each other."""
    inner = Inner()
    for client in (ACME, Client("other")):
        await Exchange(headers=KEYED).through(stage(store, inner), client)
    first, second = inner.reached
    assert first.tracking_id != second.tracking_id


async def test_a_key_in_use_is_told_when_to_come_back(store: EmbeddedStore) -> None:
    """While the first request works, the second is refused with the time that the lease has left."""
    answers: list[NotAccepted] = []

    class Slow(Inner):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            answers.append(await refused_by(stage(store, Inner())))
            await super().__call__(scope, receive, send)

    await Exchange(headers=KEYED).through(stage(store, Slow()), ACME)
    (failure,) = answers
    assert failure.code is codes.IDEMPOTENCY_IN_PROGRESS
    assert failure.retry_after is not None
    assert 10 <= failure.retry_after <= 15


@pytest.mark.parametrize(("left", "seconds"), [(1, 1), (1000, 1), (1001, 2), (15000, 15)])
async def test_the_rest_of_a_lease_is_rounded_up(left: int, seconds: int) -> None:
    """Who waits as long as it is told finds the lease over."""
    failure = await refused_by(stage(ScriptedStore(begin=InProgress(left)), Inner()))
    assert failure.retry_after == seconds


@pytest.mark.parametrize(
    ("begun", "inner", "step"),
    [
        (Begun(), Inner(Refused(codes.NO_PROVIDER_AVAILABLE)), "release"),
        (Begun(), Inner(VERDICT), "complete"),
        (Begun(), Inner(Refused(codes.INVALID_PAYLOAD, details={"no": {"JSON"}})), "release"),
        (Begun(), Inner(OutcomeUnknown()), "release"),
        (Begun(), Inner(RuntimeError("bug")), "release"),
        (Begun(), Inner(asyncio.CancelledError()), "release"),
        (Begun(), Inner(Answer(403, b"{}")), "release"),
        (Begun(), Inner(OutcomeUnknown(), begins_to_publish=True), "suspend"),
        (Begun(), Inner(VERDICT, begins_to_publish=True), "suspend"),
        (Begun(), Inner(RuntimeError("bug"), begins_to_publish=True), "suspend"),
        (Begun(), Inner(asyncio.CancelledError(), begins_to_publish=True), "suspend"),
        (Begun(), Inner(RuntimeError("bug"), publishes=True), "complete"),
        (Begun(), Inner(publishes=True), "complete"),
        (RESUMED, Inner(Refused(codes.NO_PROVIDER_AVAILABLE)), "suspend"),
        (RESUMED, Inner(VERDICT), "suspend"),
        (RESUMED, Inner(OutcomeUnknown()), "suspend"),
        (RESUMED, Inner(RuntimeError("bug")), "suspend"),
        (RESUMED, Inner(asyncio.CancelledError()), "suspend"),
        (RESUMED, Inner(RuntimeError("bug"), publishes=True), "complete"),
        (RESUMED, Inner(publishes=True), "complete"),
    ],
    ids=lambda value: (
        f"{value.outcome!r}, published: {value.begins_to_publish + value.publishes}"
        if isinstance(value, Inner)
        else repr(value)
    ),
)
async def test_the_claim_is_settled_by_the_outcome(begun: Begun, inner: Inner, step: str) -> None:
    """Nothing published: released, or the verdict kept. Perhaps published, now or earlier: kept to be resumed.

    What was raised or answered after that does not change it; and what was raised goes on as it is.
    """
    store = ScriptedStore(begin=begun)
    exchange = Exchange(headers=KEYED)
    if isinstance(inner.outcome, BaseException):
        with pytest.raises(type(inner.outcome)) as raised:
            await exchange.through(stage(store, inner), ACME)
        assert raised.value is inner.outcome
    else:
        await exchange.through(stage(store, inner), ACME)
    assert store.steps == ["begin", step]


@pytest.mark.parametrize(
    ("begun", "inner", "step"),
    [
        (RESUMED, Inner(Answer(403, b"{}")), "suspend"),
        (Begun(), Inner(Answer(403, b"{}"), begins_to_publish=True), "suspend"),
        (Begun(), Inner(Answer(403, b"{}"), publishes=True), "complete"),
    ],
    ids=["resumed", "begun to publish", "published"],
)
async def test_no_answer_of_an_inner_stage_refuses_what_may_be_published(
    begun: Begun, inner: Inner, step: str
) -> None:
    """It is held back, and the outcome called unknown; of what was confirmed the boundary makes a 202."""
    store, exchange = ScriptedStore(begin=begun), Exchange(headers=KEYED)
    assert isinstance(await refused_by(stage(store, inner), exchange), OutcomeUnknown)
    assert exchange.sent == []
    assert store.steps == ["begin", step]


async def test_what_fails_after_the_confirm_is_kept_as_accepted() -> None:
    """The retry is told of the message that is on the queue, not of what went wrong with the first answer."""
    store, inner = ScriptedStore(), Inner(RuntimeError("bug"), publishes=True)
    with pytest.raises(RuntimeError, match="bug"):
        await Exchange(headers=KEYED).through(stage(store, inner), ACME)
    claim = inner.context[Claim]
    assert store.calls[-1] == ("complete", claim, accepted(claim.tracking_id))


@pytest.mark.parametrize("begun", [RESUMED, Begun()], ids=repr)
async def test_a_resumed_claim_says_so(begun: Begun) -> None:
    """The stages inside can tell that nothing may refuse it any more; of a fresh one they may."""
    inner = Inner()
    await Exchange(headers=KEYED).through(stage(ScriptedStore(begin=begun), inner), ACME)
    assert inner.context[Claim].armed is begun.armed
    assert inner.context.may_be_published is begun.armed


async def test_without_a_key_nothing_is_resumed() -> None:
    """There is no earlier request that it could be the retry of."""
    inner = Inner()
    await Exchange().through(stage(ScriptedStore(begin=RESUMED), inner), ACME)
    assert not inner.context.may_be_published


async def test_an_answer_without_a_content_type_is_kept_as_json(store: EmbeddedStore) -> None:
    """An operator's stage need not name one: the answer leaves, and is replayed."""

    class Bare(Inner):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    first, second = [await Exchange(headers=KEYED).through(stage(store, Bare()), ACME) for _ in range(2)]
    assert (first.status, first.body) == (second.status, second.body) == (202, b"{}")
    assert first.headers["content-type"] == second.headers["content-type"] == "application/json"
    assert second.context.headers == {b"idempotent-replayed": b"true"}


async def test_an_answer_that_never_began_releases_the_claim() -> None:
    """An inner app that ends without a word is a bug, and the key is free again."""

    class Silent(Inner):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            pass

    store = ScriptedStore()
    with pytest.raises(RuntimeError, match="answered"):
        await Exchange(headers=KEYED).through(stage(store, Silent()), ACME)
    assert store.steps == ["begin", "release"]


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), ClaimLost()], ids=repr)
async def test_a_202_stands_though_it_cannot_be_kept(error: Exception) -> None:
    """The message is on the queue: never a 5xx after a confirm. The failed step is told."""
    ears = Ears()
    exchange = await Exchange(headers=KEYED).through(
        stage(ScriptedStore(complete=error), Inner(), ears=ears), ACME
    )
    assert exchange.status == 202
    assert ears.store_failures == [("idempotency", "complete", type(error).__name__)]


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), ClaimLost()], ids=repr)
@pytest.mark.parametrize(
    ("outcome", "step"),
    [(VERDICT, "complete"), (Refused(codes.UNAUTHORIZED), "release"), (OutcomeUnknown(), "suspend")],
    ids=repr,
)
async def test_a_failure_stands_though_the_claim_cannot_be_settled(
    outcome: NotAccepted, step: str, error: Exception
) -> None:
    """The client learns what happened to its request, not what happened to our store."""
    ears = Ears()
    store = ScriptedStore(release=error, suspend=error, complete=error)
    inner = Inner(outcome, begins_to_publish=step == "suspend")
    assert await refused_by(stage(store, inner, ears=ears)) is outcome
    assert ears.store_failures == [("idempotency", step, type(error).__name__)]


async def test_without_a_store_the_policy_decides() -> None:
    """``reject`` refuses; ``allow`` serves without a claim, under the tracking_id that every retry has."""
    down = StoreUnavailable("no answer")
    failure = await refused_by(stage(ScriptedStore(begin=down), Inner()))
    assert failure.code is codes.SERVICE_UNAVAILABLE
    ears, inner = Ears(), Inner()
    allowing = stage(ScriptedStore(begin=down), inner, ears=ears, on_store_error="allow")
    first, second = [await Exchange(headers=KEYED).through(allowing, ACME) for _ in range(2)]
    assert first.status == second.status == 202
    assert first.context.tracking_id == second.context.tracking_id
    assert inner.reached[0].get(Claim) is None
    assert ears.store_failures == [("idempotency", "begin", "StoreUnavailable")] * 2


@pytest.mark.parametrize(
    ("error", "on_store_error", "steps"),
    [
        (StoreUnavailable("no answer"), "reject", ["begin", "suspend"]),
        (StoreUnavailable("not connected", may_be_done=False), "reject", ["begin"]),
        (StoreUnavailable("no answer"), "allow", ["begin"]),
        (StoreUnavailable("not connected", may_be_done=False), "allow", ["begin"]),
    ],
    ids=["no answer, reject", "not sent, reject", "no answer, allow", "not sent, allow"],
)
async def test_a_claim_that_may_have_begun_is_suspended(
    error: StoreUnavailable, on_store_error: str, steps: list[str]
) -> None:
    """The retry need not wait for a lease that nobody uses; where nothing can have begun, nothing is undone."""
    store = ScriptedStore(begin=error)
    idempotency = stage(store, Inner(), on_store_error=on_store_error)
    exchange = Exchange(headers=KEYED)
    if on_store_error == "reject":
        assert (await refused_by(idempotency, exchange)).code is codes.SERVICE_UNAVAILABLE
    else:
        await exchange.through(idempotency, ACME)
    assert store.steps == steps


@pytest.mark.parametrize(
    ("suspend", "told"),
    [(ClaimLost(), []), (StoreUnavailable("no answer"), [("idempotency", "suspend", "StoreUnavailable")])],
    ids=["not begun", "no answer"],
)
async def test_that_a_claim_had_not_begun_is_no_trouble(suspend: Exception, told: list[object]) -> None:
    """Suspending it is a precaution, and that it was not needed is nothing to tell."""
    ears = Ears()
    store = ScriptedStore(begin=StoreUnavailable("no answer"), suspend=suspend)
    assert (await refused_by(stage(store, Inner(), ears=ears))).code is codes.SERVICE_UNAVAILABLE
    assert ears.store_failures == told


async def test_a_broken_body_is_known_by_its_bytes(store: EmbeddedStore) -> None:
    """A key works for a body that is refused later: the retry of the same bytes is replayed."""
    refused = Refused(codes.INVALID_PAYLOAD)
    await refused_by(stage(store, Inner(refused)), Exchange(b"{", KEYED))
    again = await Exchange(b"{", KEYED).through(stage(store, Inner()), ACME)
    assert again.status == 422
    other = await refused_by(stage(store, Inner()), Exchange(b"{ ", KEYED))
    assert other.code is codes.IDEMPOTENCY_KEY_REUSED


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"a", "a"),
        (b"!" * 255, "!" * 255),
        (b"8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (b'"8e03978e"', "8e03978e"),
        (b'"' + b"a" * 255 + b'"', "a" * 255),
        (rb'"a\"b\\c"', r'a"b\c'),
        (rb'a"b\c', r'a"b\c'),
        (b'"' + rb"\\" * 255 + b'"', "\\" * 255),
    ],
)
def test_a_key_may_be_bare_or_quoted(header: bytes, key: str) -> None:
    """Both forms mean the same key."""
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b'""',
        b'"',
        b'"a',
        b"a b",
        b'"a b"',
        b"a, b",
        b'"a", "b"',
        b"a" * 256,
        b'"' + b"a" * 256 + b'"',
        b"a\x7f",
        b"a\x00",
        b"a\n",
        b'"a"\n',
        "é".encode(),
        b"\xe9",
        rb'"a\b"',
        b'"a"b"',
        b'"a\\',
    ],
    ids=repr,
)
async def test_any_other_key_is_refused(header: bytes) -> None:
    """It is refused before the store is asked or the body is read."""
    with pytest.raises(Refused, match="INVALID_IDEMPOTENCY_KEY"):
        parse_key(header)
    store = ScriptedStore()
    exchange = Exchange(headers=JSON | {"idempotency-key": header.decode("latin-1")})
    assert (await refused_by(stage(store, Inner()), exchange)).code is codes.INVALID_IDEMPOTENCY_KEY
    assert store.calls == []
    assert len(exchange.incoming) == 1
