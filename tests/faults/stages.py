"""Stages of an operator's own that end or stop their process, each at one point of a send.

They act on a request that names the point in the header X-Crash (SIGKILL) or X-Pause (SIGSTOP), and pass on any other.
The product has no such hooks: these come in as any operator's stage does, by their import path in PIPELINE.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from pipeline.context import Context
from pipeline.stage import Stage
from tests.faults import clock

clock.follow()  # In every process that has these stages.

CRASH, PAUSE = "X-Crash", "X-Pause"

BEGIN = "begin"
"""The claim has begun, nothing else has happened."""
ARM = "arm"
"""The quota is taken and the claim armed, nothing is published."""
PUBLISH = "publish"
"""The publish has been handed to the broker's connection, and no confirm has been seen."""
CONFIRM = "confirm"
"""The broker has confirmed, the claim is not completed."""
COMPLETE = "complete"
"""The claim is completed, and not a byte of the answer has left."""

POINTS = (BEGIN, ARM, PUBLISH, CONFIRM, COMPLETE)

# Long enough for the frames to be written; a confirm that comes sooner makes it a kill at the confirm.
_PUBLISHING_SECONDS = 0.002


class Outermost(Stage):
    """Ends the process when an answer is about to leave."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def answer(message: Message) -> None:
            _reach(scope, COMPLETE)
            await send(message)

        await self.app(scope, receive, answer)


class Claimed(Stage):
    """Ends the process when the claim has begun; stands next to ``idempotency``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        _reach(scope, BEGIN)
        await self.app(scope, receive, send)


class Charged(Stage):
    """Ends the process before, during and after the publish; stands last."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        _reach(scope, ARM)
        if _signal_at(scope, PUBLISH):
            asyncio.get_running_loop().call_later(_PUBLISHING_SECONDS, _reach, scope, PUBLISH)
        await self.app(scope, receive, send)
        _reach(scope, PUBLISH)
        _reach(scope, CONFIRM)


def pipeline(order: Sequence[str]) -> str:
    """The order as PIPELINE names it, with these stages in between."""
    names = [f"{__name__}:Outermost"]
    for name in order:
        names += [name, f"{__name__}:Claimed"] if name == "idempotency" else [name]
    return ",".join([*names, f"{__name__}:Charged"])


def _reach(scope: Scope, point: str) -> None:
    """End or stop the process if the request names this point."""
    number = _signal_at(scope, point)
    if number is not None:
        os.kill(os.getpid(), number)


def _signal_at(scope: Scope, point: str) -> signal.Signals | None:
    context = Context.of(scope)
    for header, number in ((CRASH, signal.SIGKILL), (PAUSE, signal.SIGSTOP)):
        if context.header(header.lower().encode()) == point.encode():
            return number
    return None
