"""The protocol of a stage, and the probe before each of them."""

from __future__ import annotations

import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline import codes
from pipeline import stage as stage_module
from pipeline.failures import OutcomeUnknown, Refused
from pipeline.stage import Stage, Timed, timed
from tests.support.asgi import Ears, Exchange, Inner


class Ticks:
    """A stopwatch that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Working(Stage):
    """Works ``before`` and ``after`` the inner app."""

    def __init__(self, app: ASGIApp, ticks: Ticks, before: float, after: float) -> None:
        super().__init__(app)
        self.ticks, self.before, self.after = ticks, before, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ticks.now += self.before
        await super().__call__(scope, receive, send)
        self.ticks.now += self.after


def build(inner: ASGIApp, stages: list[tuple[str, Middleware]], ears: Ears) -> ASGIApp:
    app = inner
    for middleware in reversed(timed(stages, ears)):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app


async def test_a_stage_that_says_nothing_needs_and_provides_nothing() -> None:
    """The base is a stage that hands everything on."""
    assert (Stage.needs, Stage.provides, Stage.follows) == (frozenset(), frozenset(), {})
    assert (await Exchange().through(Stage(Inner()))).status == 202


async def test_a_stages_time_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage is charged for its work before and after the inner app, not for what the inner ones did."""
    ticks = Ticks()
    monkeypatch.setattr(stage_module, "time", ticks)
    ears = Ears()
    names = [("outer", 1.0, 2.0), ("middle", 4.0, 8.0), ("inner", 16.0, 32.0)]
    stages = [
        (name, Middleware(Working, ticks=ticks, before=before, after=after)) for name, before, after in names
    ]
    await Exchange().through(build(Inner(), stages, ears))
    assert ears.left == [("inner", 48.0), ("middle", 12.0), ("outer", 3.0)]


async def test_a_refusal_is_named_for_the_stage_that_raised_it() -> None:
    """The innermost probe that sees it names the stage; those outside only pass it on."""
    ears = Ears()
    refused = Refused(codes.UNAUTHORIZED)
    stages = [("outer", Middleware(Stage)), ("inner", Middleware(Stage))]
    with pytest.raises(Refused):
        await Exchange().through(build(Inner(refused), stages, ears))
    assert [stage for stage, _ in ears.left] == ["inner", "outer"]
    assert refused.stage == "inner"


@pytest.mark.parametrize("error", [RuntimeError("bug"), OutcomeUnknown()], ids=repr)
async def test_whatever_is_raised_the_time_is_told(error: Exception) -> None:
    """A bug inside does not stop the stopwatch, and is passed on as it is."""
    ears = Ears()
    with pytest.raises(type(error)):
        await Exchange().through(Timed(Inner(error), "only", ears))
    assert [stage for stage, _ in ears.left] == ["only"]
