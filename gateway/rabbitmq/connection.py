"""One supervised connection to RabbitMQ: made again after every loss, for ever, and known to be usable or not.

aiormq gives the protocol; what it leaves open is settled here. It does not reconnect. It notices a half-open connection
only after three heartbeats, and closing such a connection may wait on the dead peer, so the socket is dropped then. And
a lost connection may surface as ``CancelledError``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiormq import AMQPConnectionError, AMQPError, ConnectionClosed

from gateway.dependency import ConnectionWatcher
from gateway.rabbitmq import urls
from gateway.rabbitmq.session import Session
from gateway.rabbitmq.topology import TopologyRefused
from gateway.tls.diagnosis import diagnosis, silent
from gateway.tls.settings import Tls
from pipeline.ports import BrokerRefused, BrokerUnknown

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_SET_UP_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_RETRY_SECONDS = (0.1, 5.0)
# That the broker blocks or unblocks is read by aiormq but not passed on.
_BLOCKED_POLL_SECONDS = 0.25
_UNCONFIRMED_IN_A_ROW = 2

_CLOSED = "closed by this gateway"
_LOST = "the connection was lost"
_GIVEN_UP = "RabbitMQ did not confirm in time twice in a row, so the connection was dropped as dead"
BLOCKED = "RabbitMQ has blocked publishing: it is low on memory or disk (rabbitmq-diagnostics alarms)"

T = TypeVar("T")
SetUp = Callable[[Session], Awaitable[None]]


class BrokerConnection:
    """Keeps a connection, and what ``set_up`` makes on it, alive.

    ``url`` is one AMQP URL, or several of one cluster, separated by commas, which are tried in turn. ``purpose`` names
    the connection in RabbitMQ's own listings. ``set_up`` is called on each new connection and again after ``renew``;
    what it raises ends the connection, and the next attempt follows. Raises ``ValueError``, without the URL, for a URL
    that is none.
    """

    def __init__(
        self, url: str, purpose: str, set_up: SetUp, on_connection: ConnectionWatcher = lambda up: None
    ) -> None:
        self._nodes = [(one, urls.tls(one)) for one in urls.parse(url, purpose)]
        self._purpose = purpose
        self._set_up = set_up
        self._on_connection = on_connection
        self._session: Session | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._renew = False
        self._is_given_up = False
        self._unconfirmed = 0
        self._confirmed_at = 0.0
        self._is_up = False
        self._is_closing = False
        self._reported: str | None = None
        self.last_error = "no connection has been made yet"

    def start(self) -> None:
        """Begin to connect."""
        self._is_closing = False
        self.spawn(self._supervise())

    async def close(self) -> None:
        """Close the connection, and make no new one."""
        # aiormq may answer a cancellation with another exception, so the supervisor looks at this, too.
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.last_error = _CLOSED

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work``, which raises nothing, beside the connection until it ends or the connection is closed."""
        task = asyncio.create_task(work, name=self._purpose)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def obstacle(self) -> str | None:
        """Why nothing can be published at this moment, in words without secrets; None when it can be."""
        session = self._session
        if session is None or not session.is_alive:
            return f"RabbitMQ is not connected: {self.last_error}"
        return None if session.is_unblocked else BLOCKED

    def renew(self) -> None:
        """Have ``set_up`` called again on the present connection, soon."""
        self._renew = True
        self._wake.set()

    def confirmed(self) -> None:
        """The broker has confirmed a publish on this connection."""
        self._confirmed_at = time.monotonic()
        self._unconfirmed = 0

    def unconfirmed(self, waited_seconds: float) -> None:
        """A publish was waited for in vain: twice in a row, and the connection is taken to be dead and dropped."""
        if self._session is None or not self._session.is_unblocked:
            # An alarm explains it, and a new connection would not help.
            return
        if time.monotonic() - self._confirmed_at < waited_seconds:
            # Meanwhile another was confirmed: the connection lives, and it is the queue that does not answer.
            return
        self._unconfirmed += 1
        if self._unconfirmed >= _UNCONFIRMED_IN_A_ROW:
            self._is_given_up = True
            self.last_error = _GIVEN_UP
            # Here and at once: the supervisor may be in ``set_up``, waiting for answers of the same dead peer.
            self._session.abort()
            self._session = None

    async def _supervise(self) -> None:
        shortest, longest = _RETRY_SECONDS
        ceiling = shortest
        attempt = 0
        while True:
            began = time.monotonic()
            url, tls = self._nodes[attempt % len(self._nodes)]
            error = f"{_place(url)}: {await self._outlive(url, tls)}"
            if self._is_closing:
                return
            attempt += 1
            if error != self._reported:
                log.warning("the connection '%s' to RabbitMQ at %s", self._purpose, error)
            self.last_error = self._reported = error
            if time.monotonic() - began > longest:
                ceiling = shortest
            ceiling = min(2 * ceiling, longest)
            await asyncio.sleep(random.uniform(shortest, ceiling))  # noqa: S311 - jitter, not a secret

    async def _outlive(self, url: str, tls: Tls | None) -> str:
        """Live through one connection, and say how it ended."""
        try:
            await self._live(url, tls)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # aiormq rejects what waits on a connection that it closes with a CancelledError nobody asked for.
        except Exception as error:  # noqa: BLE001 - whatever ends a connection, the next attempt follows
            reason = _reason(error)
            if not self._is_given_up:
                return reason
        return _GIVEN_UP if self._is_given_up else _LOST

    async def _live(self, url: str, tls: Tls | None) -> None:
        session = Session(url, tls)
        self._is_given_up = False
        try:
            await _connect(session, tls)
            await self._prepare(session)
            self._unconfirmed = 0
            self.last_error = _LOST
            self._reported = None
            self._session = session
            await self._watch(session)
        finally:
            self._session = None
            self._tell(False)
            await _close(session)

    async def _watch(self, session: Session) -> None:
        lost = session.closing
        lost.add_done_callback(lambda _: self._wake.set())
        # One that was given up is dropped, though its reader may not have noticed yet.
        while self._session is session and session.is_alive and not self._is_closing:
            is_usable = session.is_unblocked
            if self._is_up and not is_usable:
                log.warning("the connection '%s' to RabbitMQ: %s", self._purpose, BLOCKED)
            self._tell(is_usable)
            if self._renew and is_usable:
                await self._prepare(session)
            with suppress(TimeoutError):
                async with asyncio.timeout(_BLOCKED_POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
        if not self._is_closing:
            await asyncio.wait({lost}, timeout=_CLOSE_SECONDS)
        if lost.done():
            await lost

    async def _prepare(self, session: Session) -> None:
        self._renew = False
        async with asyncio.timeout(_SET_UP_SECONDS):
            await self._set_up(session)

    def _tell(self, is_up: bool) -> None:
        if is_up != self._is_up:
            self._is_up = is_up
            if is_up:
                log.info("the connection '%s' to RabbitMQ is usable", self._purpose)
            self._on_connection(is_up)


async def _connect(session: Session, tls: Tls | None) -> None:
    connecting = asyncio.ensure_future(session.connect())
    connecting.add_done_callback(_retrieve)
    try:
        await asyncio.wait({connecting}, timeout=_CONNECT_SECONDS)
        if not connecting.done():
            raise TimeoutError(
                f"no answer to the connection attempt within {_CONNECT_SECONDS:g} s: see whether the server hangs, and "
                f"whether the address and the firewalls are right{silent(tls)}"
            )
        try:
            connecting.result()
        except (AMQPError, OSError) as error:
            if told := diagnosis(error, tls):
                raise AMQPConnectionError(told) from error
            raise
    finally:
        if not connecting.done():
            # First the socket: a cancelled attempt would close in order with a peer that may not listen.
            session.abort()
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=_CLOSE_SECONDS)


async def _close(session: Session) -> None:
    closing = asyncio.ensure_future(session.close(ConnectionClosed(0, _CLOSED)))
    closing.add_done_callback(_retrieve)
    await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
    session.abort()
    await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at a result that nobody may wait for any more, so that asyncio does not report it."""
    if not future.cancelled():
        future.exception()


def _reason(error: Exception) -> str:
    """What people are told of ``error``. Only the words of the broker and of the operating system are passed on."""
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time: the server, or another node of its cluster, hangs"
    if isinstance(error, AMQPError | OSError | TopologyRefused | BrokerRefused | BrokerUnknown):
        return str(error.args[-1]) if error.args else type(error).__name__
    log.error("an unexpected error on the connection to RabbitMQ", exc_info=error)
    return type(error).__name__


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
