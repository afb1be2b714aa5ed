"""The deadlines of requests: what ``asyncio.timeout`` does, for a tenth of what it would cost each of them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from pipeline.timing.timeouts import Timeouts

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
REQUEST_SECONDS = 10.0
"""How long a request may take from its body on; shorter than a claim's lease, so that no late step finds it resumed."""


class Deadlines:
    """The deadlines of all requests in flight. Belongs to one event loop."""

    def __init__(self, body_seconds: float = BODY_SECONDS, request_seconds: float = REQUEST_SECONDS) -> None:
        self.bodies: Timeouts[Deadline] = Timeouts(body_seconds, Deadline.expire)
        self.requests: Timeouts[Deadline] = Timeouts(request_seconds, Deadline.expire)

    def hurry(self, seconds: float) -> None:
        """Give every body that is still to come this many seconds at the most."""
        self.bodies.shorten(seconds)


class Deadline:
    """A context manager that ends the task inside it by ``TimeoutError`` when its time is over.

    The body has ``BODY_SECONDS``, and what follows ``body_is_there`` has ``REQUEST_SECONDS``. Like ``asyncio.timeout``
    it tells its own cancellation from that of others.
    """

    __slots__ = ("_cancelling", "_deadlines", "_task", "_waits_in", "is_over")

    def __init__(self, deadlines: Deadlines) -> None:
        self.is_over = False
        self._deadlines = deadlines
        self._waits_in = deadlines.bodies
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def body_is_there(self) -> None:
        """The time for the rest of the request begins."""
        if self._task is not None:
            self._waits_in.discard(self)
            self._waits_in = self._deadlines.requests
            self._waits_in.add(self)

    def expire(self) -> None:
        """The time is over."""
        if self._task is not None:
            self.is_over = True
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._waits_in.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits_in.discard(self)
        task, self._task = self._task, None
        if (
            self.is_over
            and task is not None
            and task.uncancel() <= self._cancelling
            and isinstance(error, asyncio.CancelledError)
        ):
            raise TimeoutError from error
