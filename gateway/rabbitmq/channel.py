"""One channel with publisher confirms, which tells the three outcomes of a publish apart: stored, refused, unknown.

A publish is written past ``aiormq.Channel.basic_publish``, whose lock, timeouts and packing cost several times as much
as this. Its answer is aiormq's to read and to match: it is entered in the same tables.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

from aiormq import Channel, DeliveryError, PublishError
from aiormq.channel import Returning

from gateway.rabbitmq.frames import Kind, Template
from gateway.rabbitmq.session import Session
from pipeline.ports import BrokerRefused, BrokerUnknown
from pipeline.timing.timeouts import Timeouts, fail


class ClosedChannel(BrokerRefused):
    """The broker has closed the channel, or it is being replaced: nothing was sent."""


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

    def __init__(self, session: Session, channel: Channel, kind: Kind, confirm_seconds: float) -> None:
        self._session = session
        self._channel = channel
        self._template = Template(kind, channel.number, channel.max_content_size)
        self._timeouts: Timeouts[asyncio.Future[object]] = Timeouts(confirm_seconds, fail)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._is_retired = False
        self.doubtful: set[str] = set()
        channel.closing.add_done_callback(self._end)

    @classmethod
    async def open(cls, session: Session, kind: Kind, confirm_seconds: float) -> ConfirmChannel:
        """A fresh one. Raises ``aiormq`` errors."""
        channel = await session.channel(publisher_confirms=True)
        assert isinstance(channel, Channel)
        return cls(session, channel, kind, confirm_seconds)

    @property
    def is_open(self) -> bool:
        """Whether it takes messages, and the broker still takes frames on it."""
        channel = self._channel
        # aiormq takes a channel off its connection as soon as the broker has closed it, and calls it closed only some
        # iterations of the event loop later; a frame sent in between would make the broker close the whole connection.
        return (
            not self._is_retired
            and not channel.is_closed
            and self._session.channels.get(channel.number) is channel
        )

    async def publish(
        self, message_id: str, body: bytes, created_at: datetime, ttl_ms: int | None = None
    ) -> None:
        """Return when the broker has stored the message. Raises ``BrokerRefused`` or ``BrokerUnknown``.

        The message is on its way before anything is awaited.
        """
        if not self.is_open:
            raise ClosedChannel("RabbitMQ has closed the channel, and another is being opened: retry")
        channel = self._channel
        frames = self._template.pack(message_id, body, created_at, ttl_ms)
        # The broker numbers what reaches it: from here to the write nothing may be awaited or fail.
        channel.delivery_tag = tag = channel.delivery_tag + 1
        channel.confirmations[tag] = confirmation = _Confirmation(loop=channel.loop)
        channel.message_id_delivery_tag[message_id] = tag
        self._session.write(frames)
        self._timeouts.add(confirmation)
        self._in_flight += 1
        try:
            await confirmation
        except PublishError as error:
            reason = f"RabbitMQ returned the message: no queue is bound for it ({error.args[0]})"
            raise Unroutable(f"{reason}. The queue and its binding are being declared again") from error
        except DeliveryError as error:
            raise Rejected("RabbitMQ refused the message: the queue is full, or has failed") from error
        except BaseException as error:
            self.doubtful.add(message_id)
            if tag in channel.confirmations:
                # So aiormq marks a publish that is answered: its acknowledgement may come yet, and means nothing.
                channel.confirmations[tag] = Returning(loop=channel.loop)
            if isinstance(error, TimeoutError):
                raise Unconfirmed(
                    f"RabbitMQ did not confirm the message within {self._timeouts.seconds:g} s: see whether the queue "
                    "has a leader, and how busy the disks are"
                ) from error
            raise
        finally:
            self._timeouts.discard(confirmation)
            channel.message_id_delivery_tag.pop(message_id, None)
            self._in_flight -= 1
            if not self._in_flight and self._is_retired:
                self._idle.set()

    async def retire(self) -> None:
        """Take no more messages, and close it as soon as the last publish in flight has its outcome."""
        self._is_retired = True
        if self._in_flight:
            await self._idle.wait()
        with suppress(Exception):
            await self._channel.close()

    def _end(self, closing: asyncio.Future[Any]) -> None:
        """Tell all that wait that no answer will come any more."""
        # A lost connection may come as a CancelledError, which no task must take for its own cancellation.
        reason = "" if closing.cancelled() else str(closing.exception() or "")
        text = f"{reason or 'the connection was lost'}, with the message in flight"
        for confirmation in self._channel.confirmations.values():
            if isinstance(confirmation, _Confirmation):
                confirmation.set_exception(BrokerUnknown(text))


class _Confirmation(asyncio.Future[object]):
    """What one publish waits for: the broker's answer as aiormq reads it, the deadline, or the channel's end."""

    __slots__ = ()

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Unlike others', and for aiormq's reader, which would end in an error of its own: the first outcome stays."""
        if not self.done():
            super().set_exception(exception)
