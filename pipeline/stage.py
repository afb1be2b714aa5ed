"""The protocol of a stage, and the mark before each of them.

A stage is a pure ASGI middleware. Its life, in order:

1. It is named in the configuration; its class attributes say what it ``needs``, ``provides`` and ``follows``, and the
   order of all stages is checked by them before anything is opened.
2. It is constructed once, with ``app``, the app inside it, and its options from ``[stage.NAME]`` as keyword arguments.
   A parameter annotated with the type of a service is given that service instead: ``Clients``, ``Claims``, ``Quotas``,
   ``Clock``, ``Telemetry``, ``Exposure``, ``GateSwitch`` and ``Downstream`` of ``pipeline.ports``,
   ``pipeline.providers.Providers``, and ``schemas.Schema``, which is the request's. So annotations are resolved at
   start-up, and what they name must be there then. A bad option raises ``ValueError``, which says what to write. What
   belongs to one request lives in locals or in the context, never on ``self``.
3. For each request, ``__call__`` may refuse by raising ``Refused``, add facts to the context, and await the inner app
   once. What it took it gives back when the inner app raises ``Refused``, and keeps on ``OutcomeUnknown``. What must be
   done before the answer leaves is done with the inner answer held. Nothing else runs after the inner app.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import ClassVar

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.context import Context
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
    """Stands before a stage and notes when a request enters it; ``observe`` takes the stage's own seconds of each."""

    def __init__(self, app: ASGIApp, stage: str, observe: Callable[[float], None]) -> None:
        self.app = app
        self.stage = stage
        self.observe = observe

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Note it, and be the stage: no frame of its own lies on the stack while the request is inside."""
        Context.of(scope).stopwatch.laps.append((self, perf_counter(), 0.0))
        return self.app(scope, receive, send)


def timed(stages: Sequence[tuple[str, Middleware]], telemetry: Telemetry) -> list[Middleware]:
    """The stages, outermost first, each timed."""
    return [
        middleware
        for name, stage in stages
        for middleware in (Middleware(Timed, stage=name, observe=telemetry.stopwatch(name)), stage)
    ]
