"""The protocol of a stage, and the mark before each of them."""

from __future__ import annotations

from starlette.middleware import Middleware

from pipeline.stage import Stage, timed
from tests.support.asgi import Ears, Exchange, Inner


async def test_a_stage_that_says_nothing_needs_and_provides_nothing() -> None:
    """The base is a stage that hands everything on."""
    assert (Stage.needs, Stage.provides, Stage.follows) == (frozenset(), frozenset(), {})
    assert (await Exchange().through(Stage(Inner()))).status == 202


async def test_each_stage_is_marked_as_it_is_entered() -> None:
    """In their order, by the names that operators write."""
    ears, inner = Ears(), Inner()
    app = inner
    for middleware in reversed(timed([("outer", Middleware(Stage)), ("inner", Middleware(Stage))], ears)):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)  # type: ignore[assignment]
    exchange = await Exchange().through(app)
    stopwatch = exchange.context.stopwatch
    assert [lap.stage for lap, *_ in stopwatch.laps] == ["outer", "inner"]
    assert stopwatch.deepest is stopwatch.laps[-1][0]
    assert ears.left == []
    stopwatch.stop()
    assert [stage for stage, _ in ears.left] == ["inner", "outer"]
