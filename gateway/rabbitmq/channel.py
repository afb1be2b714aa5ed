"""One channel with publisher confirms, which tells the three outcomes of a publish apart: stored, refused, unknown."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

from aiormq import Channel, ChannelInvalidStateError, Connection, DeliveryError, PublishError

from gateway.rabbitmq import frames
from gateway.rabbitmq.frames import Kind
from pipeline.ports import BrokerRefused, BrokerUnknown


class Unroutable(BrokerRefused):
    """The broker returned the message: no queue is bound for it."""


class Rejected(BrokerRefused):
    """The broker took the message and refused it: the queue is full, or failed."""


class Unconfirmed(BrokerUnknown):
    """The broker did not answer in time."""


class ConfirmChannel:
    """Publishes messages of one kind; ``confirm_seconds`` bounds each publish.

    ``doubtful`` holds the ids of publishes that ended unknown. aiormq matches a returned message to a publish by its
    id alone, so the late return of such a one would be taken for the answer to a later publish of the same id: an id
    in ``doubtful`` must not be published on this channel again. For the same reason no id may be published twice at a
    time.
    """

    def __init__(self, channel: Channel, kind: Kind, confirm_seconds: float) -> None:
        self._channel = channel
        self._kind = kind
        self._confirm_seconds = confirm_seconds
        self._in_flight = 0
        self._idle: asyncio.Event | None = None
        self.doubtful: set[str] = set()

    @classmethod
    async def open(cls, connection: Connection, kind: Kind, confirm_seconds: float) -> ConfirmChannel:
        """A fresh one. Raises ``aiormq`` errors."""
        channel = await connection.channel(publisher_confirms=True)
        assert isinstance(channel, Channel)
        return cls(channel, kind, confirm_seconds)

    @property
    def is_open(self) -> bool:
        """Whether the broker still takes frames on it."""
        channel = self._channel
        # aiormq takes a channel off its connection as soon as the broker has closed it, and calls it closed only some
        # turns later; a frame sent in between would make the broker close the whole connection.
        return not channel.is_closed and channel.connection.channels.get(channel.number) is channel

    async def publish(
        self, message_id: str, body: bytes, created_at: datetime, ttl_ms: int | None = None
    ) -> None:
        """Return when the broker has stored the message. Raises ``BrokerRefused`` or ``BrokerUnknown``."""
        self._in_flight += 1
        try:
            await frames.publish(
                self._channel, self._kind, message_id, body, created_at, ttl_ms, self._confirm_seconds
            )
        except ChannelInvalidStateError as error:
            # Raised only while the publish waits for its turn: nothing has been sent.
            raise BrokerRefused("the channel was closed before the message could be sent") from error
        except PublishError as error:
            raise Unroutable(f"no queue takes the message: {error}") from error
        except DeliveryError as error:
            raise Rejected("the broker refused the message: the queue is full, or failed") from error
        except TimeoutError as error:
            self.doubtful.add(message_id)
            raise Unconfirmed(f"no confirm within {self._confirm_seconds:g} s") from error
        except asyncio.CancelledError as error:
            self.doubtful.add(message_id)
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled us: it is how aiormq may tell that the connection is gone.
            raise BrokerUnknown("the connection was lost with the message in flight") from error
        except Exception as error:
            self.doubtful.add(message_id)
            raise BrokerUnknown(f"the message was in flight: {error}") from error
        finally:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()

    async def retire(self) -> None:
        """Close it as soon as the last publish in flight has its outcome."""
        if self._in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
        with suppress(Exception):
            await self._channel.close()
