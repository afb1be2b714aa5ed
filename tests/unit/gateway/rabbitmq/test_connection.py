"""A connection that is made again after every loss, and known to be usable or not. The broker is played here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiormq
import pytest
from aiormq import spec

from gateway.rabbitmq import connection as module
from gateway.rabbitmq.connection import BLOCKED, BrokerConnection, SetUp
from gateway.rabbitmq.session import Session
from gateway.rabbitmq.topology import TopologyRefused
from tests.support.amqp_peer import Peer, listening

HOST = "127.0.0.1"
# Less than the 18 s after which aiormq drops a silent connection by itself.
SOON = 12.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait for what is tested by itself."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(module, "_BLOCKED_POLL_SECONDS", 0.01)


async def nothing(_: Session) -> None:
    """A ``set_up`` for which a connection is enough."""


@asynccontextmanager
async def connecting(
    url: str, set_up: SetUp = nothing, told: list[bool] | None = None
) -> AsyncIterator[BrokerConnection]:
    """One that has begun to connect, and is closed again without leaving a task behind."""
    connection = BrokerConnection(url, "a test", set_up, (told if told is not None else []).append)
    connection.start()
    try:
        yield connection
    finally:
        async with asyncio.timeout(SOON):
            await connection.close()
        assert not connection._tasks


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


async def usable(connection: BrokerConnection) -> None:
    await eventually(lambda: connection.obstacle() is None)


async def test_it_is_usable_when_it_is_set_up(peer: Peer) -> None:
    """Not earlier: nobody publishes before the queue is there."""
    told: list[bool] = []
    go_on = asyncio.Event()

    async def set_up(session: Session) -> None:
        assert session.is_alive
        await go_on.wait()

    async with connecting(peer.url, set_up, told) as connection:
        await peer.got("Connection.Open")
        await asyncio.sleep(0.1)
        assert connection.obstacle() == "RabbitMQ is not connected: no connection has been made yet"
        assert told == []
        go_on.set()
        await usable(connection)
        await eventually(lambda: told == [True])
    assert told == [True, False]
    assert "closed by this gateway" in (connection.obstacle() or "")
    assert "Connection.Close" in peer.names()


async def test_a_lost_connection_is_made_again(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """And set up again; who watches is told of both."""
    caplog.set_level(logging.INFO)
    told: list[bool] = []
    sessions: list[Session] = []

    async def set_up(session: Session) -> None:
        sessions.append(session)

    def has(count: int) -> bool:
        return len(told) >= count

    async with connecting(peer.url, set_up, told) as connection:
        for count in (1, 2, 3):
            await eventually(partial(has, 2 * count - 1))
            assert len(sessions) == peer.connections == count
            peer.cut()
            await eventually(partial(has, 2 * count))
        await usable(connection)
    assert told[:6] == [True, False] * 3
    # Each loss is told, though in the same words.
    assert caplog.text.count(f"the connection 'a test' to RabbitMQ at {HOST}:{peer.port}: ") == 3
    assert "the connection 'a test' to RabbitMQ is usable" in caplog.text


async def test_the_words_of_a_broker_that_closes_are_passed_on(peer: Peer) -> None:
    """Such as an operator's reason."""
    async with connecting(peer.url) as connection:
        await usable(connection)
        peer.replies["Connection.Open"] = None
        peer.say(spec.Connection.Close(320, "CONNECTION_FORCED - for repairs", 0, 0), channel=0)
        await eventually(lambda: "for repairs" in (connection.obstacle() or ""))
        assert f"{HOST}:{peer.port}: " in str(connection.obstacle())


async def test_nodes_are_tried_in_turn(peer: Peer) -> None:
    """Whichever of them are there."""
    async with connecting(f"amqp://guest:guest@{HOST}:1/,{peer.url}") as connection:
        await usable(connection)
        peer.cut()
        await eventually(lambda: peer.connections == 2)
        await usable(connection)


async def test_where_nothing_listens_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried."""
    async with connecting(f"amqp://guest:s3cr3t@{HOST}:1/") as connection:
        await eventually(lambda: f"{HOST}:1: " in (connection.obstacle() or ""))
        await asyncio.sleep(0.3)
        assert "s3cr3t" not in str(connection.obstacle())
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"the connection 'a test' to RabbitMQ at {HOST}:1: ")
    assert "s3cr3t" not in caplog.text


async def test_a_broker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether before or in the midst of the opening; closing waits for nothing either."""
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.1)
    for name in ("Connection.StartOk", "Connection.Open"):
        async with listening() as peer:
            peer.replies[name] = None
            async with connecting(peer.url) as connection:
                await eventually(
                    lambda: "no answer to the connection attempt within 0.1 s" in connection.last_error
                )
                await eventually(lambda: peer.connections > 1)


async def test_what_cannot_be_set_up_is_explained(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And tried again on a new connection, until it can."""
    failures: list[Exception] = [
        TopologyRefused("the queue exists otherwise"),
        aiormq.ChannelAccessRefused("not yours"),
        TimeoutError(),
    ]
    reasons = ["the queue exists otherwise", "not yours", "hangs"]
    heard: list[str] = []

    async def set_up(_: Session) -> None:
        heard.append(connection.last_error)
        if failures:
            raise failures.pop(0)

    async with connecting(peer.url, set_up) as connection:
        await usable(connection)
    assert peer.connections == 4
    assert all(reason in said for reason, said in zip(reasons, heard[1:], strict=True))


async def test_a_set_up_that_hangs_is_given_up(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a node that does not answer."""
    monkeypatch.setattr(module, "_SET_UP_SECONDS", 0.05)

    async def set_up(_: Session) -> None:
        await asyncio.sleep(3600)

    async with connecting(peer.url, set_up) as connection:
        await eventually(lambda: peer.connections > 1)
        assert "no answer in time" in connection.last_error


async def test_a_bug_is_logged_and_told_by_its_kind_alone(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says may hold anything."""

    async def set_up(_: Session) -> None:
        raise LookupError("hunter2")

    async with connecting(peer.url, set_up) as connection:
        await eventually(lambda: connection.last_error.endswith(": LookupError"))
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)


async def test_renewing_sets_the_same_connection_up_again(peer: Peer) -> None:
    """Soon, and once for all that asked meanwhile."""
    sessions: list[Session] = []

    async def set_up(session: Session) -> None:
        sessions.append(session)

    async with connecting(peer.url, set_up) as connection:
        await usable(connection)
        for _ in range(5):
            connection.renew()
        await eventually(lambda: len(sessions) == 2)
        await asyncio.sleep(0.1)
        assert sessions[0] is sessions[1]
        assert len(sessions) == 2
        assert peer.connections == 1


async def test_a_blocked_connection_is_kept_and_not_usable(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """What is to be renewed waits for the end of it."""
    told: list[bool] = []
    set_ups = 0

    async def set_up(_: Session) -> None:
        nonlocal set_ups
        set_ups += 1

    async with connecting(peer.url, set_up, told) as connection:
        await eventually(lambda: told == [True])
        peer.say(spec.Connection.Blocked(reason="low on disk"), channel=0)
        await eventually(lambda: told == [True, False])
        assert connection.obstacle() == BLOCKED
        connection.renew()
        for _ in range(2):
            connection.unconfirmed(0)
        await asyncio.sleep(0.1)
        assert (set_ups, peer.connections) == (1, 1)
        peer.say(spec.Connection.Unblocked(), channel=0)
        await eventually(lambda: told == [True, False, True])
        await eventually(lambda: set_ups == 2)
        assert peer.connections == 1
    assert caplog.text.count(BLOCKED) == 1


async def test_two_publishes_without_a_confirm_give_the_connection_up(peer: Peer) -> None:
    """At once, and for that reason."""
    async with connecting(peer.url) as connection:
        await usable(connection)
        connection.unconfirmed(0)
        assert connection.obstacle() is None
        peer.replies["Connection.Open"] = None
        connection.unconfirmed(0)
        assert "did not confirm in time twice in a row" in (connection.obstacle() or "")
        await eventually(lambda: peer.connections == 2)
        peer.replies["Connection.Open"] = spec.Connection.OpenOk()


async def test_a_confirm_in_between_keeps_the_connection(peer: Peer) -> None:
    """It lives: it is the queue that does not answer."""
    async with connecting(peer.url) as connection:
        await usable(connection)
        for _ in range(5):
            connection.unconfirmed(0)
            connection.confirmed()
        for _ in range(5):
            # Waited for while another was confirmed.
            connection.unconfirmed(60)
        assert connection.obstacle() is None
        assert peer.connections == 1


async def test_closing_ends_though_a_cancellation_is_answered_with_another_error(peer: Peer) -> None:
    """As aiormq does when a channel is closed at the same moment."""
    reached = asyncio.Event()

    async def set_up(_: Session) -> None:
        reached.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise aiormq.ChannelInvalidStateError from None

    async with connecting(peer.url, set_up):
        await reached.wait()


async def test_what_runs_beside_it_ends_with_it(peer: Peer) -> None:
    """Whoever spawns it need not look after it."""
    async with connecting(peer.url) as connection:
        task = connection.spawn(asyncio.sleep(3600))
        assert await connection.spawn(asyncio.sleep(0, "done")) == "done"
    assert task.cancelled()


@pytest.mark.parametrize("url", ["amqp://user:s3cr3t", "http://user:s3cr3t@host/", "amqp://[s3cr3t"])
def test_a_url_that_is_none(url: str) -> None:
    """It is not repeated."""
    with pytest.raises(ValueError, match=r"must be amqp://") as raised:
        BrokerConnection(url, "a test", nothing)
    assert "s3cr3t" not in str(raised.value)
