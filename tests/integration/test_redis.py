"""The store on a real Redis: what it leaves there, and what it does while the server fails it."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
import redis
import uvloop

from gateway.redis.store import RedisStore
from pipeline.answer import Answer, accepted
from pipeline.facts import Client, Reservation
from pipeline.ports import Begun, ClaimLost, QuotaExceeded, Replay, StoreUnavailable
from tests.contract.stores import claim_on, used_by
from tests.support.servers import HOST, RedisServer, free_port
from tests.support.waiting import eventually, once_served

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)

# Far more than any bound that the store promises, far less than for ever: the machine may be busy.
SOON = 30.0
PATIENTLY = {"call_seconds": SOON}


@pytest.fixture(scope="module")
def server(redis_server: RedisServer) -> Iterator[RedisServer]:  # Skips where Redis is not installed.
    """A Redis that these tests may stop, empty and misconfigure."""
    with RedisServer() as own:
        yield own


@pytest.fixture
def direct(server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of the emptied server, to look behind the store."""
    with redis.Redis.from_url(server.url) as plain:
        plain.flushall()
        yield plain


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """A store that no slow machine makes fail: with it tests prepare and look."""
    async with opened(server.url, **PATIENTLY) as store:
        yield store


@pytest.fixture
async def hasty(server: RedisServer) -> AsyncIterator[RedisStore]:
    """A store with bounds as in use, which a server that does not answer makes fail soon."""
    async with opened(server.url) as store:
        yield store


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    """A store that is closed again."""
    store = RedisStore(url, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def recovered(store: RedisStore) -> None:
    """Wait until the store serves again, all by itself."""
    await once_served(store.ping, StoreUnavailable)


async def closed(writers: list[asyncio.StreamWriter]) -> None:
    """Wait until a server that is played here has closed all of its connections."""
    await eventually(lambda: all(writer.is_closing() for writer in writers))


def some_client() -> Client:
    return Client(f"client {secrets.token_hex(8)}")


def lone_node() -> RedisServer:
    """The one node of a Redis Cluster."""
    return RedisServer(cluster_enabled="yes", cluster_port=str(free_port()))


async def do_everything(store: RedisStore, client: Client) -> None:
    """Leave a key of every kind behind."""
    for n in range(3):
        claim = claim_on(client, f"order-4711-{n}")
        assert await store.begin(claim) == Begun()
        assert isinstance(await store.take(client, TODAY, claim.token, claim), Reservation)
        if n == 1:
            await store.complete(claim, accepted(claim.tracking_id))
        if n == 2:
            await store.suspend(claim)
    undone = claim_on(client, "undone")
    await store.begin(undone)
    await store.arm(undone)
    await store.release(undone)
    kept = await store.take(client, YESTERDAY, "kept", None)
    returned = await store.take(client, TODAY, "returned", None)
    assert isinstance(kept, Reservation)
    assert isinstance(returned, Reservation)
    await store.give_back(returned)


async def check_replies_are_in_order(prepare: RedisStore, store: RedisStore) -> None:
    """Send much at once, and see each caller get its own reply or, on a slow machine, none."""
    client = some_client()
    claims = [claim_on(client, f"{n}") for n in range(100)]
    for claim in claims:
        await prepare.begin(claim)
        await prepare.complete(claim, Answer(422, claim.key.encode()))
    asked = (store.begin(claim_on(client, claim.key)) for claim in claims)
    found = await asyncio.gather(*asked, return_exceptions=True)
    for claim, one in zip(claims, found, strict=True):
        assert isinstance(one, StoreUnavailable) or one == Replay(Answer(422, claim.key.encode()))


# What it leaves there.


@pytest.mark.parametrize(
    ("name", "with_the_tables"),
    [("acme logistics", True), ("a client with as long a name as there may be, it has 64 letters.", False)],
)
async def test_a_completed_202_costs_at_most_300_bytes(
    store: RedisStore, direct: redis.Redis, name: str, *, with_the_tables: bool
) -> None:
    """Its key is included; with a name of usual length its share of the server's tables is so too."""

    async def send(n: int) -> None:
        claim = claim_on(Client(name), f"{n:0255}")
        await store.begin(claim)
        await store.arm(claim)
        await store.complete(claim, accepted(claim.tracking_id))

    async def memory_after(start: int, end: int) -> int:
        for n in range(start, end, 20):
            await asyncio.gather(*(send(n + m) for m in range(20)))
        return int(direct.info("memory")["used_memory"])

    before, after = await memory_after(0, 1000), await memory_after(1000, 4000)
    keys = list(direct.scan_iter(count=1000))
    assert len(keys) == 4000
    assert all((direct.memory_usage(key, samples=0) or 0) in range(1, 301) for key in keys)
    assert not with_the_tables or (after - before) / 3000 <= 300


async def test_every_key_expires(store: RedisStore, direct: redis.Redis) -> None:
    """Nothing that the gateway writes stays for ever: a counter stays for about two days, a note for minutes."""
    await do_everything(store, Client("x"))
    refused = claim_on(Client("x"), "refused")
    await store.begin(refused)
    await store.complete(refused, Answer(422, b"{}"))
    lives = {key.decode(): direct.ttl(key) for key in direct.scan_iter()}
    assert len(lives) == 9
    for key, seconds in lives.items():
        is_of_claims = key.startswith("claim:") or ":refusals:" in key
        least, most = (86400 - SOON, 86400) if is_of_claims else (2 * 86400 - SOON, 2 * 86400)
        if ":r:" in key:
            least, most = 30, 600
        assert least <= seconds <= most, key


async def test_an_answer_lives_from_when_it_was_stored(
    server: RedisServer, store: RedisStore, direct: redis.Redis
) -> None:
    """However long the request was worked on, its answer is kept for the whole IDEMPOTENCY_TTL_SECONDS."""
    claim = claim_on(some_client())
    async with opened(server.url, idempotency_ttl_seconds=100, **PATIENTLY) as other:
        await other.begin(claim)
    (record,) = direct.scan_iter()
    assert direct.ttl(record) <= 100
    await store.complete(claim, accepted(claim.tracking_id))
    assert direct.ttl(record) > 86400 - SOON


async def test_keys_are_named_as_documented(server: RedisServer, direct: redis.Redis) -> None:
    """An operator finds a client's counter by its name and day."""
    async with opened(server.url, quota_prefix="sms:quota", **PATIENTLY) as store:
        await store.take(Client("My {odd} 100% client"), TODAY, "t", None)
    assert set(direct.scan_iter()) == {
        b"sms:quota:{My%20%7Bodd%7D%20100%25%20client}:" + str(TODAY).encode(),
        b"sms:quota:{My%20%7Bodd%7D%20100%25%20client}:r:t",
    }


async def test_no_idempotency_key_is_kept(store: RedisStore, direct: redis.Redis) -> None:
    """A sender may have put anything into it: only a digest stays. And of a request nothing but its fingerprint."""
    await do_everything(store, Client("x"))
    for key in direct.scan_iter():
        assert b"order-4711" not in key
        if not key.startswith(b"claim:"):
            assert direct.get(key) in {b"1", b"3", str(YESTERDAY).encode(), b"returned"}
            continue
        record = direct.hgetall(key)
        assert record.pop(b"f") == claim_on(some_client()).fingerprint
        assert set(record) <= {b"t", b"l", b"a", b"d"} or record == {b"r": b"v1"}


async def test_all_keys_of_a_client_lie_in_one_slot(redis_server: RedisServer) -> None:
    """A Redis Cluster carries out every step, and finds all of a client's keys in one slot."""
    with lone_node() as node, redis.Redis.from_url(node.url) as direct:
        direct.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        async with opened(node.url, **PATIENTLY) as store:
            for name in ("x", "{x}", "}{", "a b", "نام"):
                client = Client(name)
                # The node takes a moment to see that it is the whole cluster.
                await once_served(partial(store.begin, claim_on(client)), StoreUnavailable)
                await do_everything(store, client)
                slots = {direct.execute_command("CLUSTER KEYSLOT", key) for key in direct.scan_iter()}
                assert len(slots) == 1
                direct.flushall()


async def test_a_cluster_of_one_node(redis_server: RedisServer) -> None:
    """The Cluster's own URL does what the server's does. Larger ones: tests/cluster, tests/contract."""
    told: list[bool] = []
    with lone_node() as node, redis.Redis.from_url(node.url) as direct:
        url = node.url.replace("redis:", "redis+cluster:")
        async with opened(url, on_connection=told.append) as store:
            with pytest.raises(StoreUnavailable, match="no node serves 16384 of the hash slots"):
                await store.ping()
            direct.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await recovered(store)
            assert told == [True]
            await once_served(partial(do_everything, store, some_client()), StoreUnavailable)
            await asyncio.to_thread(node.kill)
            with pytest.raises(
                StoreUnavailable, match=f"cluster of {HOST}:{node.port}: {HOST}:{node.port}: "
            ):
                await store.begin(claim_on(some_client()))
            assert told == [True, False]
            await asyncio.to_thread(node.start)
            await recovered(store)


async def test_one_connection_carries_everything(
    server: RedisServer, store: RedisStore, direct: redis.Redis
) -> None:
    """512 requests at once wait for no connection and open no further one."""
    await store.ping()
    before = direct.info("clients")["connected_clients"]
    async with opened(server.url, **PATIENTLY) as other:
        client = some_client()
        found = await asyncio.gather(*(other.begin(claim_on(client, f"{n}")) for n in range(512)))
        assert found == [Begun()] * 512
        assert direct.info("clients")["connected_clients"] == before + 1


# What it does while the server fails it.


async def test_restart(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Claims, answers and counts outlive a restart; the store connects again, and says and logs what happened."""
    caplog.set_level(logging.INFO)
    told: list[bool] = []
    client = some_client()
    held, done = claim_on(client, "held"), claim_on(client, "done")
    async with opened(server.url, on_connection=told.append, **PATIENTLY) as store:
        for claim in (held, done):
            await store.begin(claim)
            await store.take(client, TODAY, claim.token, claim)
        await store.complete(done, accepted(done.tracking_id))
        assert told == [True]
        await asyncio.to_thread(server.restart)
        assert await once_served(lambda: store.begin(claim_on(client, "done")), StoreUnavailable) == Replay(
            accepted(done.tracking_id)
        )
        await store.complete(held, accepted(held.tracking_id))
        assert await used_by(store, client) == 2
        assert told == [True, False, True]
    assert told == [True, False, True, False]
    assert "connected" in caplog.text
    assert str(server.port) in caplog.text


async def test_sigkill(
    server: RedisServer, direct: redis.Redis, store: RedisStore, hasty: RedisStore
) -> None:
    """While the server is gone every call fails with the reason; when it is back, everything is as it was."""
    client = some_client()
    claim = claim_on(client)
    await store.begin(claim)
    await store.take(client, TODAY, claim.token, claim)
    await recovered(hasty)
    # While a sync is under way Redis keeps what it appends to itself, for up to two seconds.
    await eventually(lambda: direct.info("persistence")["aof_buffer_length"] == 0)
    await asyncio.to_thread(server.kill)
    try:
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match=str(server.port)):
                await hasty.complete(claim, accepted(claim.tracking_id))
            assert time.monotonic() - started < SOON / 3
    finally:
        await asyncio.to_thread(server.start)
    await recovered(hasty)
    await recovered(store)
    await store.complete(claim, accepted(claim.tracking_id))
    assert await store.begin(claim_on(client)) == Replay(accepted(claim.tracking_id))
    assert await used_by(store, client) == 1


async def test_a_server_that_comes_later(server: RedisServer) -> None:
    """Starting without a server fails nobody: the store connects when there is one."""
    server.kill()
    try:
        async with opened(server.url) as store:
            with pytest.raises(StoreUnavailable):
                await store.ping()
            await asyncio.to_thread(server.start)
            await recovered(store)
    finally:
        server.start()


async def test_sigstop(server: RedisServer, store: RedisStore, hasty: RedisStore) -> None:
    """A server that does not answer is waited for 250 ms, by however many; then each gets its own reply again."""
    client = some_client()
    await recovered(hasty)
    with server.paused():
        for _ in range(4):
            started = time.monotonic()
            found = await asyncio.gather(
                *(hasty.take(client, TODAY, secrets.token_hex(8), None) for _ in range(50)),
                return_exceptions=True,
            )
            assert all(isinstance(one, StoreUnavailable) for one in found)
            # On a busy machine 50 that end together may take some of its time: not twenty times what they may wait.
            assert time.monotonic() - started < 5
    await recovered(hasty)
    await check_replies_are_in_order(store, hasty)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
async def test_a_pause_of_our_own(
    server: RedisServer, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    """Replies that came while our own process did not look are read before anything is called late."""
    told: list[bool] = []

    async def main() -> None:
        client = some_client()
        async with opened(server.url, on_connection=told.append) as hasty:
            await recovered(hasty)
            # From here on the server knows the script, and needs not be asked twice.
            await hasty.take(client, TODAY, "first", None)
            for _ in range(3):
                asked = [asyncio.create_task(hasty.take(client, TODAY, f"{n}", None)) for n in range(50)]
                for _ in range(10):
                    await asyncio.sleep(0)
                time.sleep(1)  # noqa: ASYNC251 - that is the pause: longer than a call may take, and than any silence
                assert len(await asyncio.gather(*asked)) == 50
            assert told == [True]

    await asyncio.to_thread(run, main())


async def test_half_open_connection(server: RedisServer) -> None:
    """A connection on which nothing arrives any more is given up, and another one is opened."""
    opened_here: list[asyncio.StreamWriter] = []
    swallow: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if writer not in swallow:
                writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server_writer = await asyncio.open_connection(HOST, server.port)
        opened_here.append(writer)
        await asyncio.gather(forward(reader, server_writer), forward(answers, writer))

    async with (
        await asyncio.start_server(connect, HOST, 0) as proxy,
        opened(f"redis://{HOST}:{proxy.sockets[0].getsockname()[1]}") as store,
    ):
        await recovered(store)
        swallow.update(opened_here)
        with pytest.raises(StoreUnavailable, match="no answer"):
            await store.ping()
        await recovered(store)
        assert len(opened_here) >= 2
    await closed(opened_here)


async def test_a_step_that_was_given_up_before_it_was_sent_is_never_sent(server: RedisServer) -> None:
    """What waited in vain for a connection is not carried out once there is one."""
    client = some_client()
    with server.paused():
        store = RedisStore(server.url)
        await store.start()
        with pytest.raises(StoreUnavailable, match="no answer"):
            await store.begin(claim_on(client))
    try:
        assert await once_served(partial(store.begin, claim_on(client)), StoreUnavailable) == Begun()
    finally:
        await store.close()


async def test_a_take_that_was_not_waited_for_can_be_undone(
    server: RedisServer, store: RedisStore, hasty: RedisStore
) -> None:
    """Whether the server carries it out before the give back or after it, nothing stays counted."""
    client = some_client()
    claim = claim_on(client)
    await store.begin(claim)
    with server.paused():
        with pytest.raises(StoreUnavailable):
            await hasty.take(client, TODAY, "late", None)
        with pytest.raises(StoreUnavailable):
            await hasty.take(client, TODAY, claim.token, claim)
        assert not claim.armed
    await store.give_back(Reservation(client.name, TODAY, None, 1, "late"))
    await store.release(claim)
    await recovered(hasty)
    assert await used_by(store, client) == 0
    assert await store.begin(claim_on(client)) == Begun()


async def test_cancelled_calls_leave_their_replies_to_nobody(store: RedisStore) -> None:
    """Whenever a request is given up, the replies to all others stay their own."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    client = some_client()
    keys = [f"{n}" for n in range(30)]
    for key in keys:
        claim = claim_on(client, key)
        await store.begin(claim)
        await store.complete(claim, Answer(422, key.encode()))
    for _ in range(100):
        calls = {asyncio.create_task(store.begin(claim_on(client, key))): key for key in keys}
        for call in chance.sample(list(calls), 10):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            call.cancel()
        await asyncio.wait(calls)
        for call, key in calls.items():
            if not call.cancelled():
                assert call.result() == Replay(Answer(422, key.encode())), seed


async def test_flushall(store: RedisStore, direct: redis.Redis) -> None:
    """When the server forgets everything in mid-flight, late steps find nothing and no count falls below nothing."""
    client = some_client()
    claim = claim_on(client)
    await store.begin(claim)
    charged = await store.take(client, TODAY, claim.token, claim)
    loose = await store.take(client, TODAY, "loose", None)
    assert isinstance(charged, Reservation)
    assert isinstance(loose, Reservation)
    direct.flushall()
    with pytest.raises(ClaimLost):
        await store.complete(claim, accepted(claim.tracking_id))
    for reservation in (charged, loose):
        await store.give_back(reservation)
    assert await used_by(store, client) == 0
    assert await store.begin(claim_on(client)) == Begun()


async def test_deleted_counter(store: RedisStore, direct: redis.Redis) -> None:
    """When an operator deletes a counter, giving back what it counted does not make it fall below nothing."""
    client = some_client()
    claim = claim_on(client)
    await store.begin(claim)
    charged = await store.take(client, TODAY, claim.token, claim)
    assert isinstance(charged, Reservation)
    loose = await store.take(client, TODAY, "loose", None)
    assert isinstance(loose, Reservation)
    direct.delete(f"quota:{{{client.name.replace(' ', '%20')}}}:{TODAY}")
    await store.release(claim)
    assert await used_by(store, client) == 0
    await store.give_back(loose)
    assert await used_by(store, client) == 0
    assert all(direct.ttl(key) > 0 for key in direct.scan_iter())


async def test_script_flush(store: RedisStore, direct: redis.Redis) -> None:
    """A server that has forgotten the scripts is sent them again, unnoticed."""
    for _ in range(2):
        await do_everything(store, some_client())
        direct.script_flush()


async def test_connection_closed_by_the_server(store: RedisStore, direct: redis.Redis) -> None:
    """A connection that the server or something in between closes is replaced."""
    for _ in range(3):
        await recovered(store)
        direct.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.01)
    await recovered(store)
    await check_replies_are_in_order(store, store)


async def test_out_of_memory(store: RedisStore, direct: redis.Redis) -> None:
    """A full server begins and takes nothing, and changes nothing in trying; what is under way can still be settled."""
    client = some_client()
    claims = [claim_on(client, f"{n}") for n in range(4)]
    for claim in claims:
        await store.begin(claim)
        await store.take(client, TODAY, claim.token, claim)
    loose = await store.take(client, TODAY, "loose", None)
    assert isinstance(loose, Reservation)
    late = Reservation(client.name, TODAY, None, 1, "late")
    direct.config_set("maxmemory", 1)
    try:
        for step in (
            store.begin(claim_on(client, "new")),
            store.take(client, TODAY, "new", None),
            store.take(client, TODAY, claims[0].token, claims[0]),
            store.arm(claims[0]),
        ):
            with pytest.raises(StoreUnavailable, match="maxmemory") as raised:
                await step
            # So nobody has to undo it, which would take memory.
            assert not raised.value.may_be_done
        for _ in range(2):
            await store.give_back(loose)
            await store.give_back(late)
        await store.complete(claims[0], accepted(claims[0].tracking_id))
        await store.release(claims[1])
        await store.suspend(claims[2])
        await store.complete(claims[3], Answer(422, b"{}"))
    finally:
        direct.config_set("maxmemory", 0)
    assert isinstance(await store.take(client, TODAY, "late", None), QuotaExceeded)
    assert await used_by(store, client) == 2
    assert await store.begin(claim_on(client, "0")) == Replay(accepted(claims[0].tracking_id))
    assert await store.begin(claim_on(client, "1")) == Begun()
    assert await store.begin(claim_on(client, "2")) == Begun(armed=True)
    assert await store.begin(claim_on(client, "new")) == Begun()


async def test_read_only_replica(server: RedisServer, direct: redis.Redis) -> None:
    """A server that was made a replica takes nothing; the store leaves it to look for the primary under the name."""
    told: list[bool] = []
    client = some_client()
    async with opened(server.url, on_connection=told.append, **PATIENTLY) as store:
        await store.ping()
        direct.replicaof(HOST, free_port())
        try:
            with pytest.raises(StoreUnavailable, match="replica"):
                await store.begin(claim_on(client))
        finally:
            direct.replicaof("NO", "ONE")
        assert await once_served(lambda: store.begin(claim_on(client)), StoreUnavailable) == Begun()
        assert told[:3] == [True, False, True]


async def test_busy(server: RedisServer, hasty: RedisStore, direct: redis.Redis) -> None:
    """A server that is busy with somebody's endless script fails calls, and serves again when it is rid of it."""
    direct.config_set("busy-reply-threshold", 20)
    await recovered(hasty)

    def occupy() -> None:
        with redis.Redis.from_url(server.url) as other, suppress(redis.ResponseError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=occupy)
    thread.start()
    try:
        async with asyncio.timeout(SOON):
            while True:
                try:
                    await hasty.ping()
                except StoreUnavailable as error:
                    if "BUSY" in str(error):
                        break
    finally:
        while thread.is_alive():
            with suppress(redis.ResponseError):
                direct.script_kill()
            thread.join(0.05)
    await recovered(hasty)


async def test_wrong_password(
    server: RedisServer, direct: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason says what is wrong and never the password; the right one, percent-encoded, is let in."""
    password = "s:/@?#%+ é"
    direct.config_set("requirepass", password)
    try:
        for given in ("mistaken-password", ""):
            url = f"redis://:{given}@{HOST}:{server.port}/0" if given else server.url
            async with opened(url, **PATIENTLY) as store:
                with pytest.raises(StoreUnavailable, match=r"(?i)invalid|auth") as raised:
                    await store.ping()
                assert "mistaken" not in str(raised.value) + repr(vars(raised.value)) + caplog.text
        url = f"redis://:{quote(password, safe='')}@{HOST}:{server.port}/0"
        async with opened(url, **PATIENTLY) as store:
            await store.ping()
    finally:
        direct.config_set("requirepass", "")


async def test_after_close(server: RedisServer, direct: redis.Redis) -> None:
    """Closing leaves no connection behind, and calls afterwards fail at once; closing again is harmless."""
    before = direct.info("clients")["connected_clients"]
    async with opened(server.url, **PATIENTLY) as store:
        await store.ping()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()
    await store.close()
    for _ in range(1000):
        await asyncio.sleep(0.02)
        if direct.info("clients")["connected_clients"] == before:
            return
    pytest.fail("the connection is still there")
