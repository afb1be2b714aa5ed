"""Publishes that are written past aiormq, and the answers that aiormq matches to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiormq
import pytest
from aiormq import spec
from pamqp.header import ContentHeader

from gateway.rabbitmq.channel import ClosedChannel, ConfirmChannel, Rejected, Unconfirmed, Unroutable
from gateway.rabbitmq.frames import Kind
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerUnknown
from tests.support.amqp_peer import Peer

KIND = Kind("x", "r", "t", "a", mandatory=True)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Of several frames.
BODY = bytes(range(256)) * 40


@pytest.fixture
async def session(peer: Peer) -> AsyncIterator[Session]:
    session = Session(peer.url)
    await session.connect()
    yield session
    await session.close()


@pytest.fixture
async def channel(session: Session) -> ConfirmChannel:
    return await ConfirmChannel.open(session, KIND, 30)


def publish(channel: ConfirmChannel, message_id: str, body: bytes = BODY) -> asyncio.Task[None]:
    return asyncio.create_task(channel.publish(message_id, body, NOW, 1000))


async def iterations(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes(*publishing: asyncio.Task[None]) -> list[type[BaseException] | None]:
    async with asyncio.timeout(20):
        found = await asyncio.gather(*publishing, return_exceptions=True)
    return [None if outcome is None else type(outcome) for outcome in found]


async def test_what_is_used_of_aiormq_is_there(session: Session, channel: ConfirmChannel) -> None:
    """Tables of aiormq's own: should a release change them, gateway/rabbitmq/channel.py must follow."""
    used = channel._channel
    assert used.delivery_tag == 0
    assert used.confirmations == {}
    assert used.message_id_delivery_tag == {}
    assert used.max_content_size == 4096 - 8
    assert issubclass(aiormq.channel.Returning, asyncio.Future)
    assert session.channels == {used.number: used}
    publishing = asyncio.create_task(
        used.basic_publish(b"", properties=spec.Basic.Properties(message_id="one"))
    )
    await iterations()
    assert used.delivery_tag == 1
    assert list(used.confirmations) == [1]
    assert isinstance(used.confirmations[1], asyncio.Future)
    assert used.message_id_delivery_tag == {"one": 1}
    used._confirm_delivery(1, spec.Basic.Ack(1))
    await publishing
    assert used.confirmations == {}
    assert used.message_id_delivery_tag == {}


async def test_each_message_gets_its_own_answer(channel: ConfirmChannel, peer: Peer) -> None:
    """Acks of one and of several, nacks, and returns, which an ack follows."""
    publishing = [publish(channel, str(number)) for number in range(6)]
    assert await peer.has(6) == ["0", "1", "2", "3", "4", "5"]
    assert peer.messages() == [(str(number), BODY) for number in range(6)]
    peer.say(spec.Basic.Ack(3))
    peer.say(spec.Basic.Nack(6))
    peer.give_back("0")
    peer.say(spec.Basic.Ack(2, multiple=True))
    peer.say(spec.Basic.Nack(5, multiple=True))
    assert await outcomes(*publishing) == [Unroutable, None, None, Rejected, Rejected, Rejected]
    assert channel._channel.confirmations == {}
    assert channel._channel.message_id_delivery_tag == {}
    assert channel._timeouts._due == {}
    assert channel.doubtful == set()


async def test_a_message_given_up_keeps_its_number(channel: ConfirmChannel, peer: Peer) -> None:
    """It is sent all the same, and the broker counts it."""
    given_up, other = publish(channel, "given up"), publish(channel, "other")
    await iterations(1)
    given_up.cancel()
    assert await peer.has(2) == ["given up", "other"]
    peer.say(spec.Basic.Ack(2))
    assert await outcomes(given_up, other) == [asyncio.CancelledError, None]
    assert channel.doubtful == {"given up"}


async def test_late_answers_disturb_nobody(
    session: Session, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was not answered in time or was given up may be acked, refused or returned later."""
    # Other tests may have configured logging, which silences aiormq.
    caplog.set_level(logging.WARNING, "aiormq")
    channel = await ConfirmChannel.open(session, KIND, 0.05)
    given_up = publish(channel, "given up")
    await iterations(1)
    given_up.cancel()
    assert await outcomes(given_up) == [asyncio.CancelledError]
    late = [publish(channel, message_id) for message_id in ("acked", "nacked", "returned")]
    assert await outcomes(*late) == [Unconfirmed] * 3
    assert channel.doubtful == {"acked", "nacked", "returned", "given up"}
    await peer.has(4)
    peer.say(spec.Basic.Ack(1), spec.Basic.Ack(2), spec.Basic.Nack(3))
    peer.give_back("returned")
    peer.say(spec.Basic.Ack(4))
    channel._timeouts.seconds = 30
    following = publish(channel, "following")
    await peer.has(5)
    peer.say(spec.Basic.Ack(5))
    assert await outcomes(following) == [None]
    assert channel._channel.confirmations == {}
    assert [record.getMessage()[:17] for record in caplog.records] == ["Unhandled message"]


async def test_a_return_in_the_iteration_of_the_time_out_disturbs_nobody(
    channel: ConfirmChannel, peer: Peer
) -> None:
    """The message is still known to aiormq, which would set an outcome on what has one."""
    returned, other = publish(channel, "returned"), publish(channel, "other")
    await peer.has(2)
    channel._channel.confirmations[1].set_exception(TimeoutError())
    header = ContentHeader(properties=spec.Basic.Properties(message_id="returned"))
    channel._channel.frames.put_nowait((0, header))
    await channel._channel._on_return_frame(spec.Basic.Return(312, "NO_ROUTE", "x", "r"))
    assert await outcomes(returned) == [Unconfirmed]
    peer.say(spec.Basic.Ack(2, multiple=True))
    assert await outcomes(other) == [None]
    assert channel.is_open


async def test_a_lost_connection_is_no_cancellation(channel: ConfirmChannel, peer: Peer) -> None:
    """Even where aiormq tells of it by ``CancelledError``."""
    publishing = [publish(channel, str(number)) for number in range(3)]
    await peer.has(3)
    peer.cut()
    assert await outcomes(*publishing) == [BrokerUnknown] * 3
    assert channel.doubtful == {"0", "1", "2"}
    assert not channel.is_open


@pytest.mark.parametrize(
    "reason", [None, asyncio.CancelledError, aiormq.ConnectionClosed(0, "by an operator")]
)
async def test_every_end_of_a_connection_has_a_reason(
    channel: ConfirmChannel, session: Session, peer: Peer, reason: Exception | None
) -> None:
    """Also where aiormq names none."""
    publishing = publish(channel, "sent")
    await peer.has(1)
    await session.close(reason)
    expected = "by an operator" if isinstance(reason, aiormq.ConnectionClosed) else "^the connection was lost"
    with pytest.raises(BrokerUnknown, match=f"{expected}.*, with the message in flight"):
        await publishing


async def test_a_channel_closed_by_the_broker_leaves_unknown_what_was_sent(
    channel: ConfirmChannel, session: Session, peer: Peer
) -> None:
    """And takes nothing more: a frame on it would cost the whole connection."""
    sent = publish(channel, "sent")
    await peer.has(1)
    peer.say(spec.Channel.Close(404, "NOT_FOUND - no exchange 'x'", 60, 40))
    with pytest.raises(BrokerUnknown, match="NOT_FOUND"):
        await sent
    before = len(peer.received)
    with pytest.raises(ClosedChannel):
        await channel.publish("too late", BODY, NOW)
    # In the time between the broker's word and aiormq's calling the channel closed, too.
    another = await ConfirmChannel.open(session, KIND, 30)
    session.channels.pop(another._channel.number)
    with pytest.raises(ClosedChannel):
        await another.publish("too late", BODY, NOW)
    assert not [frame for _, frame in peer.received[before:] if frame.name == "Basic.Publish"]
    assert another.doubtful == set()


async def test_a_retired_channel_is_closed_after_the_last_answer(channel: ConfirmChannel, peer: Peer) -> None:
    """And takes nothing new."""
    publishing = publish(channel, "sent")
    await peer.has(1)
    retiring = asyncio.create_task(channel.retire())
    await iterations()
    with pytest.raises(ClosedChannel):
        await channel.publish("too late", BODY, NOW)
    peer.say(spec.Basic.Ack(1))
    assert await outcomes(publishing, retiring) == [None, None]
    assert channel._channel.is_closed
    assert await peer.has(1) == ["sent"]


async def test_messages_of_one_iteration_leave_in_one_write(
    channel: ConfirmChannel, session: Session, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all channels, whatever their number."""
    another = await ConfirmChannel.open(session, KIND, 30)
    writer = session._socket.writer
    assert writer is not None
    written: list[bytes] = []
    write = writer.write

    def write_and_note(frames: bytes) -> None:
        written.append(frames)
        write(frames)

    monkeypatch.setattr(writer, "write", write_and_note)
    publishing = [publish(channel, str(number)) for number in range(32)]
    publishing += [publish(another, str(number)) for number in range(32)]
    await peer.has(32, 1)
    await peer.has(32, 2)
    assert len(written) == 1
    for number in (1, 2):
        peer.say(spec.Basic.Ack(32, multiple=True), channel=number)
    assert await outcomes(*publishing) == [None] * 64


async def test_nothing_gets_in_between_the_frames_of_a_message(
    channel: ConfirmChannel, session: Session, peer: Peer
) -> None:
    """Declarations, channels that open and close, and aiormq's own publishes go the way of aiormq's own writer."""
    publishing: list[asyncio.Task[None]] = []

    async def operate() -> None:
        other = await session.channel(publisher_confirms=False)
        for _ in range(5):
            await other.queue_declare("q")
            await other.basic_publish(BODY, properties=spec.Basic.Properties(message_id="aiormq's"))
        await other.close()

    operating = [asyncio.create_task(operate()) for _ in range(5)]
    for number in range(100):
        publishing.append(publish(channel, str(number)))
        if number % 3 == 0:
            await asyncio.sleep(0.001)
    await asyncio.gather(*operating)
    assert await peer.has(100) == [str(number) for number in range(100)]
    assert {body for _, body in peer.messages()} == {BODY}
    for number in {number for number, frame in peer.received if number > 1}:
        assert {body for _, body in peer.messages(number)} == {BODY}
    # All frames in a row, as they came: a message's follow each other at once, whatever the channel.
    names = [(number, frame.name) for number, frame in peer.received]
    for place, (number, name) in enumerate(names):
        if name in {"ContentHeader", "ContentBody"}:
            assert names[place - 1][0] == number
            assert names[place - 1][1] in {"Basic.Publish", "ContentHeader", "ContentBody"}
    peer.say(spec.Basic.Ack(100, multiple=True))
    assert await outcomes(*publishing) == [None] * 100


async def test_nothing_is_written_once_the_socket_is_gone(channel: ConfirmChannel, session: Session) -> None:
    """The publish ends unknown all the same."""
    publishing = publish(channel, "sent")
    await iterations(1)
    session.abort()
    assert await outcomes(publishing) == [BrokerUnknown]
