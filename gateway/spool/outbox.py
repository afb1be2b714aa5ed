"""The outbox that spools what RabbitMQ does not take, so that no sender notices that it is away.

Order: while a message to some number waits in the spool, whatever comes to that number goes there too, in whichever
process it arrives. So of two messages to one number the one whose 202 was seen before the other was sent is on the
queue before it. What comes to another number goes there too until RabbitMQ has recovered, and then past the spool: so
the spool empties although messages come as fast as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from loguru import logger

from gateway.dependency import Dependency
from gateway.embedded.failures import DatabaseError
from gateway.embedded.moving.mover import Destination, Mover, forward_lock
from gateway.spool.file import Spool, SpoolFull
from gateway.spool.recovery import Recovery
from pipeline.envelope import Envelope
from pipeline.ports import BrokerRefused, BrokerUnknown, Outbox

# What is being moved when the gateway ends may finish; what does not is moved again after the next start.
_STOP_SECONDS = 1.0
# Large enough to empty the spool faster than it fills; small enough for Server B to hear twice of.
_WINDOW = 256


class Broker(Outbox, Dependency, Destination, Protocol):
    """What the spool stands in for, such as ``gateway.rabbitmq.RabbitOutbox``."""


class SpoolingOutbox:
    """The ports ``Outbox`` and ``Dependency`` on ``broker``, with ``spool`` for what the broker does not take.

    Whatever the broker refuses is spooled: the protocol does not tell a full queue from one that has failed. What it
    leaves unknown is spooled too, under the same tracking_id: it is then certainly stored, and perhaps twice, which the
    delivery side has to expect in any case. Unknown is also what takes longer than ``patience_seconds``: a healthy
    broker confirms in milliseconds, and few requests should wait together for one that is dead.

    ``on_spooled`` is called for each message that the spool has taken, ``on_moved`` with the number of those that the
    broker has confirmed since.
    """

    name = "broker"

    def __init__(
        self,
        broker: Broker,
        spool: Spool,
        *,
        patience_seconds: float = 1.0,
        on_spooled: Callable[[], object] = lambda: None,
        on_moved: Callable[[int], object] = lambda messages: None,
    ) -> None:
        self.broker = broker
        self.spool = spool
        self._mover = Mover(
            spool.outbox,
            broker,
            window=_WINDOW,
            # That of ``sms-gateway forward``, so that the two never move together.
            lock_path=forward_lock(spool.path),
            is_waited_in=spool.is_waited_in,
            on_moved=self._note_moved,
            on_trouble=self._note_trouble,
            on_empty=_tell_empty,
        )
        self._recovery = Recovery(broker.ping)
        self._patience_seconds = patience_seconds
        self._moving: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._on_spooled = on_spooled
        self._on_moved = on_moved
        self._is_spooling = False

    async def start(self) -> None:
        """Begin to connect, and to move what waits."""
        await self.broker.start()
        await self.spool.start()
        self._moving = asyncio.create_task(self._mover.run(self._stopping, follow=True), name="spool")

    async def ping(self) -> None:
        """The broker's own state: the spool is a dependency of its own in health reports."""
        await self.broker.ping()

    async def close(self) -> None:
        """Let what is being moved finish, for a moment, and close both."""
        self._recovery.close()
        if self._moving is not None:
            self._stopping.set()
            await asyncio.wait({self._moving}, timeout=_STOP_SECONDS)
            self._moving.cancel()
            await asyncio.wait({self._moving})
        await self.broker.close()
        await self.spool.close()

    async def publish(self, envelope: Envelope) -> None:
        """See ``Outbox.publish``."""
        disk_failure: BrokerRefused | None = None
        if self._has_to_wait(envelope):
            try:
                await self._keep(envelope)
            except SpoolFull:
                raise
            except BrokerRefused as error:
                # Better out of order than not at all: the broker may be there again.
                disk_failure = error
            else:
                return
        failure = await self._failure_to_publish(envelope)
        if failure is None:
            return
        if disk_failure is None:
            try:
                await self._keep(envelope)
            except BrokerRefused as error:
                disk_failure = error
            else:
                self._tell(failure)
                return
        # The spool certainly does not have it; whether the broker does, the broker's failure says.
        raise type(failure)(f"{failure}; {disk_failure}") from disk_failure

    def _has_to_wait(self, envelope: Envelope) -> bool:
        messages, is_waited_for = self.spool.look_for(envelope.message.to)
        return is_waited_for or (messages > 0 and not self._recovery.is_over())

    async def _failure_to_publish(self, envelope: Envelope) -> BrokerRefused | BrokerUnknown | None:
        """What became of an attempt on the broker; None when it has confirmed."""
        failure: BrokerRefused | BrokerUnknown
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self.broker.publish(envelope)
        except (BrokerRefused, BrokerUnknown) as error:
            failure = error
        except TimeoutError:
            failure = BrokerUnknown(f"RabbitMQ has not confirmed within {self._patience_seconds:g} s")
        else:
            self._is_spooling = False
            self._recovery.confirmed()
            return None
        self._recovery.failed()
        return failure

    async def _keep(self, envelope: Envelope) -> None:
        await self.spool.publish(envelope)
        self._on_spooled()

    def _note_moved(self, messages: int) -> None:
        self._recovery.confirmed()
        self._on_moved(messages)

    def _note_trouble(self, error: Exception) -> None:
        if not isinstance(error, DatabaseError):
            self._recovery.failed()
        logger.debug("the spool has to wait: {}", error)

    def _tell(self, failure: Exception) -> None:
        if not self._is_spooling:
            self._is_spooling = True
            logger.bind(cause=str(failure)).warning("messages wait in the spool until RabbitMQ takes them")


def _tell_empty(messages: int) -> None:
    logger.info("the spool is empty again: {} messages have been moved to RabbitMQ", messages)
