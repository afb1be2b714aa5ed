"""The protocol of a stage, and the stopwatch that stands before each of them.

A stage is a pure ASGI middleware. Its life, in order:

1. It is named in the configuration; its class attributes say what it ``needs``, ``provides`` and ``follows``, and the
   order of all stages is checked by them before anything is opened.
2. It is constructed once, with ``app``, the app inside it, and its options from ``[stage.NAME]`` as keyword arguments.
   A parameter annotated with the type of a service is given that service instead: ``Clients``, ``Claims``, ``Quotas``,
   ``Clock``, ``Telemetry``, ``Exposure`` and ``GateSwitch`` of ``pipeline.ports``, ``pipeline.providers.Providers``,
   and ``schemas.Schema``, which is the request's. So annotations are resolved at start-up, and what they name must be
   there then. A bad option raises ``ValueError``, which says what to write. What belongs to one request lives in locals
   or in the context, never on ``self``.
3. For each request, ``__call__`` may refuse by raising ``Refused``, add facts to the context, and await the inner app
   once. What it took it gives back when the inner app raises ``Refused``, and keeps on ``OutcomeUnknown``. What must be
   done before the answer leaves is done with the inner answer held. Nothing else runs after the inner app.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.context import Context
from pipeline.failures import NotAccepted
from pipeline.ports import Telemetry

Facts = frozenset[type]


class Stage:
    """What stages have in common; an operator's own may derive from it or only look like it.

    ``needs``: facts that an earlier stage must provide. ``provides``: facts that it adds. ``follows``: facts that, if
    any stage provides them, must be there before it, each with the reason why.
    """

    needs: ClassVar[Facts] = frozenset()
    provides: ClassVar[Facts] = frozenset()
    follows: ClassVar[Mapping[type, str]] = {}

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)


class Timed:
    """Measures the stage inside it: its own time, without that of the stages further in.

    And it names the stage to a failure that comes from there.
    """

    def __init__(self, app: ASGIApp, stage: str, telemetry: Telemetry) -> None:
        self.app = app
        self.stage = stage
        self.observe = telemetry.stopwatch(stage)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = Context.of(scope)
        inner_before, context.inner_seconds = context.inner_seconds, 0.0
        started = time.perf_counter()
        try:
            await self.app(scope, receive, send)
        except NotAccepted as failure:
            if failure.stage is None:
                failure.stage = self.stage
            raise
        finally:
            seconds = time.perf_counter() - started
            self.observe(seconds - context.inner_seconds)
            context.inner_seconds = inner_before + seconds


def timed(stages: Sequence[tuple[str, Middleware]], telemetry: Telemetry) -> list[Middleware]:
    """The stages, outermost first, each behind its stopwatch."""
    return [
        middleware
        for name, stage in stages
        for middleware in (Middleware(Timed, stage=name, telemetry=telemetry), stage)
    ]
