"""The outbox in the file, besides what the contract of an outbox asks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox
from tests.contract.outboxes import envelope


async def test_the_outbox_is_read_in_order_and_in_portions(path: Path) -> None:
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    sent = [envelope() for _ in range(10)]
    for one in sent:
        await outbox.publish(one)
    first = await outbox.waiting(limit=4)
    rest = await outbox.waiting(after=first[-1].position, limit=100)
    assert [message.tracking_id for message in [*first, *rest]] == [one.tracking_id for one in sent]
    assert [message.body for message in first] == [one.to_json() for one in sent[:4]]
    for message, one in zip(first, sent, strict=False):
        assert timedelta() <= one.created_at - message.created_at < timedelta(milliseconds=1)
        assert message.expires_at - message.created_at == timedelta(hours=1)
    await outbox.remove({message.position: message.tracking_id for message in first})
    assert await outbox.count() == 6
    await outbox.remove({})
    assert await outbox.waiting(limit=100) == rest
    await outbox.close()


async def test_a_position_is_never_used_again(path: Path) -> None:
    """Whoever goes on after the last one that it saw misses nothing, even when all were removed in between."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await outbox.publish(envelope())
    [first] = await outbox.waiting()
    await outbox.remove({first.position: first.tracking_id})
    await outbox.publish(envelope())
    [second] = await outbox.waiting()
    assert second.position > first.position
    await outbox.close()


async def test_a_message_that_still_waits_stays_as_it_was(path: Path) -> None:
    """Publishing its tracking_id again changes neither its body nor its place."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    first, second = envelope("first"), envelope("second")
    await outbox.publish(first)
    await outbox.publish(second)
    await outbox.publish(envelope("other words", first.tracking_id))
    assert [message.body for message in await outbox.waiting()] == [first.to_json(), second.to_json()]
    await outbox.close()


async def test_what_is_not_stored_again_uses_up_no_position(path: Path) -> None:
    """A spool tells by its positions how full it is: retries must not fill it."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    first = envelope()
    for one in (first, first, first, envelope()):
        await outbox.publish(one)
    before, after = await outbox.waiting()
    assert after.position == before.position + 1
    await outbox.close()
