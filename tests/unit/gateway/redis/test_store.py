"""What the store asks of Redis for each step, and what it makes of the reply. The server is played here.

What the scripts do with it is tested on real servers, in tests/contract and tests/integration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest

from gateway.redis import packing, scripts
from gateway.redis.cluster import ClusterLink
from gateway.redis.keys import Keys
from gateway.redis.link import Link
from gateway.redis.scripts import Script
from gateway.redis.store import RedisStore
from pipeline.answer import Answer, accepted
from pipeline.facts import Claim, Client, Reservation, derive_tracking_id
from pipeline.ports import Begun, ClaimLost, InProgress, OtherPayload, QuotaExceeded, Replay, StoreUnavailable
from tests.support.redis_peer import HOST, Peer, listening, packed

SOON = 30.0
DAY = date(2026, 2, 3)
CLIENT = Client("acme", daily_quota=100)
LOOSE = Reservation("acme", DAY, 100, 1, "token")
REFUSAL = Answer(422, b'{"error_code":"INVALID_PAYLOAD"}' * 4)

KEYS = Keys("quota")
RECORD = KEYS.claim("acme", "order-1")
COUNTERS = KEYS.counters("acme")
NOTE = KEYS.reservation("acme", "token")

Step = Callable[[RedisStore, Claim], Awaitable[Any]]
Reply = bytes | str | int | Sequence[Any] | None


def some_claim() -> Claim:
    return Claim.on(CLIENT, "order-1", b"f" * 32)


PACKED = packing.pack(REFUSAL.pack(some_claim().tracking_id), some_claim().tracking_id)


OTHER = b"g" * 32
OTHERS_ID = derive_tracking_id("acme", "order-1", OTHER)
OTHERS_REFUSAL = packing.pack(REFUSAL.pack(OTHERS_ID), OTHERS_ID)


def begin(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.begin(claim)


def arm(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.arm(claim)


def accept(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.complete(claim, accepted(claim.tracking_id))


def refuse(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.complete(claim, REFUSAL)


def release(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.release(claim)


def suspend(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.suspend(claim)


def take(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.take(CLIENT, DAY, claim.token, claim)


def take_loose(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.take(CLIENT, DAY, "token", None)


def give_back(store: RedisStore, claim: Claim) -> Awaitable[Any]:
    return store.give_back(LOOSE)


HELD = (arm, accept, refuse, release, suspend)


@asynccontextmanager
async def opened(
    answer: Callable[[list[bytes]], Awaitable[bytes]], **options: Any
) -> AsyncIterator[tuple[RedisStore, Peer]]:
    """A connected store, and the server, which answers scripts with this."""

    async def serve(command: list[bytes]) -> bytes:
        return await answer(command) if command[0].startswith(b"EVAL") else b"+OK\r\n"

    async with listening(serve) as peer:
        store = RedisStore(peer.url, **{"call_seconds": SOON, **options})
        await store.start()
        try:
            await store.ping()
            peer.commands.clear()
            yield store, peer
        finally:
            await store.close()


def opened_to(reply: Reply, **options: Any) -> Any:
    """The same, with one reply for every script."""

    async def answer(_: list[bytes]) -> bytes:
        return packed(reply)

    return opened(answer, **options)


@pytest.mark.parametrize(
    ("step", "reply", "script", "keys", "arguments"),
    [
        (begin, ["begun", 0], scripts.BEGIN, [RECORD], [b"f" * 32, "TOKEN", 15000, 86_400_000]),
        (arm, 1, scripts.ARM, [RECORD], ["TOKEN"]),
        (accept, 1, scripts.COMPLETE, [RECORD], ["TOKEN", "v1", 86_400_000]),
        (
            refuse,
            1,
            scripts.COMPLETE,
            [RECORD, COUNTERS],
            ["TOKEN", PACKED, 86_400_000, 200 + len(PACKED), 1_048_576],
        ),
        (release, 1, scripts.RELEASE, [RECORD, COUNTERS], ["TOKEN"]),
        (suspend, 1, scripts.SUSPEND, [RECORD], ["TOKEN"]),
        (
            take,
            ["taken", 1, "2026-02-03"],
            scripts.TAKE_WITH_CLAIM,
            [RECORD, COUNTERS],
            ["TOKEN", "2026-02-03", 100, 172_800],
        ),
        (
            take_loose,
            ["taken", 1, "2026-02-03"],
            scripts.TAKE_WITHOUT_CLAIM,
            [NOTE, COUNTERS],
            ["2026-02-03", 100, 172_800, 300_000],
        ),
        (give_back, 1, scripts.GIVE_BACK, [NOTE, COUNTERS], [300_000]),
    ],
)
async def test_a_step_is_one_script(
    step: Step, reply: Reply, script: Script, keys: list[bytes], arguments: list[Any]
) -> None:
    """Called by its digest, in one round trip; a 202 gives nothing back, so it needs no counters."""
    claim = some_claim()
    async with opened_to(reply) as (store, peer):
        await step(store, claim)
    words = [claim.token if one == "TOKEN" else one for one in arguments]
    packed_words = [one if isinstance(one, bytes) else str(one).encode() for one in words]
    assert peer.commands == [[b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *packed_words]]


async def test_settings_reach_the_scripts() -> None:
    """How long a claim is held and kept; that there is no limit; under which prefix is counted."""
    options = {"lease_seconds": 1.5, "idempotency_ttl_seconds": 100, "quota_prefix": "sms"}
    async with opened_to(["begun", 1], **options) as (store, peer):
        await store.begin(some_claim())
        assert peer.commands[-1][-2:] == [b"1500", b"100000"]
    async with opened_to(["taken", 1, "2026-02-03"], **options) as (store, peer):
        await store.take(Client("acme"), DAY, "token", None)
        assert peer.commands[-1][4:7] == [b"sms:{acme}:", b"2026-02-03", b""]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (["begun", 0], Begun()),
        (["begun", 1], Begun(armed=True)),
        (["replay", "v1"], Replay(accepted(some_claim().tracking_id))),
        (["replay", PACKED], Replay(REFUSAL)),
        (["in progress", 1234], InProgress(1234)),
        (["other payload", OTHER, "v1"], OtherPayload("accepted")),
        (["other payload", OTHER, OTHERS_REFUSAL], OtherPayload("refused")),
        (["other payload", OTHER, None], OtherPayload("in_progress")),
    ],
)
async def test_what_may_become_of_a_claim(reply: Reply, outcome: object) -> None:
    """Each as the script tells it."""
    async with opened_to(reply) as (store, _):
        assert await store.begin(some_claim()) == outcome


@pytest.mark.parametrize("step", [take, take_loose])
async def test_what_may_become_of_a_take(step: Step) -> None:
    """The day is the one that the script charged, which may be an earlier one."""
    claim = some_claim()
    async with opened_to(["taken", 7, "2026-02-02"]) as (store, _):
        token = claim.token if step is take else "token"
        assert await step(store, claim) == Reservation("acme", date(2026, 2, 2), 100, 7, token)
        assert claim.armed == (step is take)
    claim = some_claim()
    async with opened_to(["exceeded", 100]) as (store, _):
        assert await step(store, claim) == QuotaExceeded(100)
        assert not claim.armed


@pytest.mark.parametrize("step", HELD)
async def test_a_claim_that_is_lost(step: Step) -> None:
    """Another request has it: the script changed nothing, and says so."""
    claim = some_claim()
    async with opened_to(0) as (store, _):
        with pytest.raises(ClaimLost):
            await step(store, claim)
    assert not claim.armed
    async with opened_to(["lost"]) as (store, _):
        with pytest.raises(ClaimLost):
            await take(store, claim)


async def test_a_claim_is_armed_when_the_script_says_so() -> None:
    """And not before."""
    claim = some_claim()
    async with opened_to(1) as (store, _):
        await store.arm(claim)
    assert claim.armed


@pytest.mark.parametrize("reply", ["hunter2", ["hunter2"], None, [], 2, ["taken"]], ids=ascii)
@pytest.mark.parametrize(
    ("step", "name"),
    [
        (begin, "begin"),
        *(
            (step, name)
            for step, name in zip(HELD, ("arm", "complete", "complete", "release", "suspend"), strict=True)
        ),
        (take, "take_with_claim"),
        (take_loose, "take_without_claim"),
    ],
)
async def test_a_reply_that_no_script_gives(step: Step, name: str, reply: Reply) -> None:
    """It says neither that a claim is lost nor that it is held: the step may be done, and the reply is not repeated."""
    claim = some_claim()
    async with opened_to(reply) as (store, peer):
        with pytest.raises(StoreUnavailable) as raised:
            await step(store, claim)
    assert str(raised.value).startswith(
        f"Redis at {HOST}:{peer.port}: unexpected reply to the script '{name}': see"
    )
    assert raised.value.may_be_done
    assert "hunter2" not in str(raised.value)
    assert not claim.armed


async def test_a_server_that_does_not_know_the_script_is_sent_it() -> None:
    """It has restarted; nothing was done yet, and nobody notices."""

    async def answer(command: list[bytes]) -> bytes:
        return b"-NOSCRIPT No matching script.\r\n" if command[0] == b"EVALSHA" else packed(["begun", 0])

    async with opened(answer) as (store, peer):
        assert await store.begin(some_claim()) == Begun()
    evalsha, evaluated = peer.commands
    assert evaluated[:2] == [b"EVAL", scripts.BEGIN.source]
    assert evaluated[2:] == evalsha[2:]


async def test_sending_a_script_takes_no_more_time_than_a_call_has() -> None:
    """Being told that it is unknown, and sending it, are one call."""

    async def answer(command: list[bytes]) -> bytes:
        await asyncio.sleep(0.3)
        return b":1\r\n" if command[0] == b"EVAL" else b"-NOSCRIPT No matching script.\r\n"

    async with opened(answer, call_seconds=0.5) as (store, peer):
        with pytest.raises(StoreUnavailable, match="no answer within 500 ms: ") as late:
            await suspend(store, some_claim())
        assert late.value.may_be_done
        assert peer.names() in ([b"EVALSHA", b"EVAL"], [b"EVALSHA"])
    async with opened(answer) as (store, peer):
        await suspend(store, some_claim())
        assert peer.names() == [b"EVALSHA", b"EVAL"]


@pytest.mark.parametrize(
    ("reply", "may_be_done"),
    [
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", False),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", True),
        (b"-ERR Error running script\r\n", True),
        (b"", True),
    ],
)
async def test_a_failed_step_says_whether_it_may_be_done(reply: bytes, may_be_done: bool) -> None:
    """A full server refuses a script at its first write. Of the rest it is not known how far it got."""

    async def answer(_: list[bytes]) -> bytes:
        return reply

    async with opened(answer, call_seconds=SOON if reply else 0.2) as (store, peer):
        with pytest.raises(StoreUnavailable, match=f"^Redis at {HOST}:{peer.port}: ") as raised:
            await take(store, some_claim())
    assert raised.value.may_be_done == may_be_done
    # Nothing that led to it is passed on, for the server's words may hold a secret.
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


async def test_what_was_not_sent_is_certainly_not_done() -> None:
    """Before the start, and where nothing listens."""
    store = RedisStore(f"redis://{HOST}:1", call_seconds=SOON)
    for start in (False, True):
        if start:
            await store.start()
        with pytest.raises(StoreUnavailable, match=f"Redis at {HOST}:1: ") as raised:
            await begin(store, some_claim())
        assert not raised.value.may_be_done
        with pytest.raises(StoreUnavailable, match=f"Redis at {HOST}:1: "):
            await store.ping()
    await store.close()


async def test_a_ping_is_bounded() -> None:
    """Like every call."""
    async with opened_to(1, call_seconds=0.2) as (store, peer):

        async def hang(_: list[bytes]) -> bytes:
            return b""

        peer.answer = hang
        with pytest.raises(StoreUnavailable, match="no answer within 200 ms"):
            await store.ping()


def test_the_url_says_which_transport() -> None:
    """One to all nodes of a Cluster, or one to one server, wherever it is found."""
    assert isinstance(RedisStore("redis+cluster://a,b")._link, ClusterLink)
    for url in ("redis://a", "unix:///run/redis.sock", "redis+sentinel://a/name"):
        assert isinstance(RedisStore(url)._link, Link)


@pytest.mark.parametrize("url", ["redis://:hunter2@[::1", "redis://host?passwort=hunter2", "hunter2"])
def test_a_url_that_cannot_be_read(url: str) -> None:
    """It is refused before anything is opened, with what to write instead and nothing of what was written."""
    with pytest.raises(ValueError, match="the URL of Redis must be redis://") as raised:
        RedisStore(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        (begin, ["begun", "x"]),
        (begin, ["in progress", "x"]),
        (begin, ["replay", None]),
        (take, ["taken", 1, "hunter2"]),
        (take_loose, ["taken", 1, b"\xff"]),
        (take_loose, ["taken", "x", "2026-02-03"]),
        (take_loose, ["taken", 1, None]),
        (take_loose, ["exceeded", "x"]),
    ],
    ids=lambda value: getattr(value, "__name__", ascii(value)),
)
async def test_a_reply_of_which_a_part_is_none_that_scripts_give(step: Step, reply: Reply) -> None:
    """No bug of ours, which would leave what was taken: the stages judge it as they judge any failure of the store."""
    claim = some_claim()
    async with opened_to(reply) as (store, _):
        with pytest.raises(StoreUnavailable, match="unexpected reply") as raised:
            await step(store, claim)
    assert raised.value.may_be_done
    assert not claim.armed
