"""Stages of an operator's own, for the bench alone: they come in by their import path in PIPELINE."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from pipeline import codes
from pipeline.answer import accepted
from pipeline.context import Context
from pipeline.facts import Client, Message
from pipeline.failures import Refused
from pipeline.stage import Stage

HOLD_HEADER = "X-Hold"


class First(Stage):
    """Does nothing."""


class Second(Stage):
    """Does nothing."""


class Third(Stage):
    """Does nothing."""


class Fourth(Stage):
    """Does nothing."""


class Fifth(Stage):
    """Does nothing."""


class Accept(Stage):
    """Answers 202 in the place of everything further in."""

    provides = frozenset({Client, Message})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await accepted(Context.of(scope).tracking_id).send(send)


class Hold(Stage):
    """Keeps a request that asks for it in flight until its client hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if Context.of(scope).header(HOLD_HEADER.lower().encode()) is None:
            await self.app(scope, receive, send)
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        raise Refused(codes.SERVICE_UNAVAILABLE)


NOTHING = tuple(f"{__name__}:{stage.__name__}" for stage in (First, Second, Third, Fourth, Fifth))
ACCEPT = f"{__name__}:{Accept.__name__}"
HOLD = f"{__name__}:{Hold.__name__}"
