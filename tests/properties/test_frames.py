"""The frames of a publish are aiormq's own, byte for byte."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq import Channel, spec
from aiormq.abc import ChannelFrame
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from gateway.rabbitmq.frames import Kind, Template

short = st.text(max_size=255).filter(lambda text: len(text.encode()) <= 255)
ids = short.filter(bool)
kinds = st.builds(
    Kind,
    exchange=st.from_regex(r"[a-zA-Z0-9-_.:]{1,127}", fullmatch=True),
    routing_key=short,
    type=short,
    app_id=short,
    mandatory=st.booleans(),
    persistent=st.booleans(),
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1970, 1, 3), timezones=offsets)  # noqa: DTZ001 - hypothesis adds the zone
body_sizes = st.integers(1, 100) | st.just(131_064)
bodies = st.binary(max_size=300)
numbers = st.integers(1, 65535)
ttls = st.none() | st.integers(min_value=0)


def marshalled(
    kind: Kind,
    number: int,
    body_size: int,
    message_id: str,
    body: bytes,
    created_at: datetime,
    ttl_ms: int | None,
) -> bytes:
    """What ``aiormq.Channel.basic_publish`` would have written."""
    properties = spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=2 if kind.persistent else 1,
        expiration=None if ttl_ms is None else str(ttl_ms),
        message_id=message_id,
        timestamp=created_at,
        message_type=kind.type,
        app_id=kind.app_id,
    )
    publish = spec.Basic.Publish(
        exchange=kind.exchange, routing_key=kind.routing_key, mandatory=kind.mandatory
    )
    header = ContentHeader(properties=properties, body_size=len(body))
    pieces = Channel._split_body(cast(Any, SimpleNamespace(max_content_size=body_size)), body)
    return ChannelFrame.marshall(number, [publish, header, *pieces]).payload


@given(kinds, numbers, body_sizes, ids, bodies, times, ttls)
def test_frames_are_those_of_aiormq(
    kind: Kind,
    number: int,
    body_size: int,
    message_id: str,
    body: bytes,
    created_at: datetime,
    ttl_ms: int | None,
) -> None:
    packed = Template(kind, number, body_size).pack(message_id, body, created_at, ttl_ms)
    assert packed == marshalled(kind, number, body_size, message_id, body, created_at, ttl_ms)


@given(kinds, st.integers(-8, 0), st.binary(max_size=300))
def test_a_broker_without_a_limit_gets_the_body_in_one_frame(kind: Kind, body_size: int, body: bytes) -> None:
    now = datetime.now(UTC)
    packed = Template(kind, 1, body_size).pack("id", body, now, 0)
    assert packed == marshalled(kind, 1, len(body) + 1, "id", body, now, 0)


@given(st.timedeltas(timedelta(days=-365), timedelta(days=1)))
def test_moments_before_1970_are_refused_as_aiormq_does(since: timedelta) -> None:
    """Rounded towards it, as everywhere: less than a second before it is no moment before it."""
    created_at = datetime(1970, 1, 1, tzinfo=UTC) + since
    template = Template(Kind("x", "", "", ""), 1, 100)
    if since <= timedelta(seconds=-1):
        with pytest.raises(struct.error):
            template.pack("id", b"", created_at, None)
        with pytest.raises(struct.error):
            marshalled(Kind("x", "", "", ""), 1, 100, "id", b"", created_at, None)
    else:
        packed = template.pack("id", b"", created_at, None)
        assert packed == marshalled(Kind("x", "", "", ""), 1, 100, "id", b"", created_at, None)


@given(st.text(min_size=256))
def test_an_id_beyond_255_bytes_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError, match="range"):
        Template(Kind("x", "", "", ""), 1, 100).pack(message_id, b"", datetime.now(UTC), None)
