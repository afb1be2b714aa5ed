"""The frames of one publish, read back by pamqp. tests/properties compares them with aiormq's own, byte for byte."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pamqp import frame as frames

from gateway.rabbitmq.frames import Kind, Template

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KIND = Kind("an exchange", "a key", "a type", "an app", mandatory=True)


def read(packed: bytes) -> list[tuple[int, Any]]:
    """Each frame with the number of its channel."""
    found = []
    while packed:
        consumed, channel, frame = frames.unmarshal(packed)
        found.append((channel, frame))
        packed = packed[consumed:]
    return found


def test_a_message_is_a_method_a_header_and_a_body() -> None:
    """With all that the contract promises of it."""
    packed = Template(KIND, 7, 4096).pack("an id", b"{}", NOW, 3_600_000)
    (_, publish), (_, header), (_, body) = found = read(packed)
    assert {channel for channel, _ in found} == {7}
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("an exchange", "a key", True)
    assert header.body_size == 2
    assert {name: value for name, value in header.properties if value} == {
        "content_type": "application/json",
        "delivery_mode": 2,
        "expiration": "3600000",
        "message_id": "an id",
        "timestamp": NOW,
        "message_type": "a type",
        "app_id": "an app",
    }
    assert body.value == b"{}"


def test_what_a_kind_leaves_out() -> None:
    """A transient message that may go nowhere, and does not expire."""
    kind = Kind("x", "r", "t", "a", persistent=False)
    (_, publish), (_, header) = read(Template(kind, 1, 4096).pack("i", b"", NOW, None))
    assert publish.mandatory is False
    assert (header.properties.delivery_mode, header.properties.expiration) == (1, None)
    assert header.body_size == 0


@pytest.mark.parametrize(
    ("body_size", "pieces"),
    [(4, [b"0123", b"4567", b"89"]), (5, [b"01234", b"56789"]), (10, [b"0123456789"]), (0, [b"0123456789"])],
)
def test_a_long_body_takes_several_frames(body_size: int, pieces: list[bytes]) -> None:
    """Of the size that the broker takes; 0 means that it sets no limit."""
    packed = Template(KIND, 1, body_size).pack("i", b"0123456789", NOW, None)
    assert [frame.value for _, frame in read(packed)[2:]] == pieces


def test_one_template_packs_many_messages() -> None:
    """Nothing of one is left in the next."""
    template = Template(KIND, 1, 4096)
    first = template.pack("first", b"1", NOW, 1000)
    template.pack("نام", b"2" * 10_000, NOW, None)
    assert template.pack("first", b"1", NOW, 1000) == first


def test_a_time_is_sent_in_whole_seconds_utc() -> None:
    """Whatever its zone."""
    local = NOW.astimezone(timezone(timedelta(hours=3, minutes=30))) + timedelta(microseconds=999_999)
    (_, (_, header), _) = read(Template(KIND, 1, 4096).pack("i", b"x", local, None))
    assert header.properties.timestamp == NOW


def test_what_has_no_place_in_a_frame_is_refused() -> None:
    """Rather than sent as frames that close the connection."""
    with pytest.raises(ValueError, match="256"):
        Template(KIND, 1, 4096).pack("x" * 256, b"", NOW, None)
    with pytest.raises(struct.error):
        Template(KIND, 1, 4096).pack("x", b"", datetime(1969, 1, 1, tzinfo=UTC), None)
