"""RabbitMQ as its other users see it: the delivery side, which takes messages off a queue, and operators."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiormq


@contextlib.asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel on a connection of its own."""
    connection = await aiormq.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def consume(url: str, queue: str) -> list[tuple[Any, bytes]]:
    """Take every message off a queue: its properties and its body."""
    async with channel_of(url) as channel:
        found: list[tuple[Any, bytes]] = []
        while True:
            message = await channel.basic_get(queue, no_ack=True)
            if message.delivery.name == "Basic.GetEmpty":
                return found
            found.append((message.header.properties, message.body))


async def remove_topology(url: str, name: str) -> None:
    """Delete every exchange and queue of a gateway whose exchange and queue have this name, messages included."""
    async with channel_of(url) as channel:
        for suffix in ("", ".dead", ".heartbeat"):
            await channel.queue_delete(name + suffix)
            await channel.exchange_delete(name + suffix)
