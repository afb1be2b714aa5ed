"""From the configured order to the stages."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from starlette.types import ASGIApp

import schemas
from gateway.config.clients import ConfiguredClients
from pipeline import wiring
from pipeline.order import BUILT_IN, DEFAULT_ORDER
from pipeline.ports import Clients, Clock
from pipeline.providers import Provider, Providers
from pipeline.stage import Stage
from tests.support.asgi import Ears, Inner, StandingClock
from tests.support.scripted import ScriptedStore

STORE = ScriptedStore()
SERVICES: dict[str, Any] = {
    "clients": ConfiguredClients({"key-0123456789abc": {"name": "acme"}}),
    "claims": STORE,
    "quotas": STORE,
    "providers": Providers([Provider("alpha")]),
    "clock": StandingClock(),
    "telemetry": Ears(),
    "schema": schemas.load("request"),
    "is_loopback": True,
    "provider_gate_enabled": False,
}
OWN = "acme_wired:Limits"
CATCH_ALL = "acme_wired:CatchAll"
PUNCTUAL = "acme_wired:Punctual"
BROKEN = "acme_wired:Broken"


class Limits(Stage):
    """An operator's own: one service, one option that must be set, one that need not."""

    def __init__(self, app: ASGIApp, clients: Clients, most: int, least: int = 0) -> None:
        super().__init__(app)
        if most < least:
            raise ValueError("most must not be less than least")
        self.clients, self.most, self.least = clients, most, least


class CatchAll(Stage):
    """An operator's own that takes any option."""

    def __init__(
        self, app: ASGIApp, clients: Clients, *rest: object, most: int = 1, **options: object
    ) -> None:
        super().__init__(app)
        self.clients, self.most, self.options = clients, most, options


class Punctual(Stage):
    """An operator's own that looks at the clock when it is made."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        super().__init__(app)
        self.since = clock.now()


class Broken(Stage):
    """An operator's own that cannot be made."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        super().__init__(app)
        raise FileNotFoundError(2, "No such file", path)


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of an operator's own stages."""
    module = ModuleType("acme_wired")
    for stage in (Limits, CatchAll, Punctual, Broken):
        setattr(module, stage.__name__, stage)
    monkeypatch.setitem(sys.modules, "acme_wired", module)


def construct(name: str, **options: Any) -> Any:
    """The stage as the server would make it."""
    ((named, middleware),) = wiring.build([name], {name: options}, SERVICES)
    assert named == name
    return middleware.cls(Inner(), *middleware.args, **middleware.kwargs)


def test_the_stages_are_built_in_the_configured_order() -> None:
    """Each is inert until the server constructs it, outermost first."""
    built = wiring.build(DEFAULT_ORDER, {}, SERVICES)
    assert [name for name, _ in built] == list(DEFAULT_ORDER)
    classes: list[object] = [middleware.cls for _, middleware in built]
    assert classes == [BUILT_IN[name] for name in DEFAULT_ORDER]


def test_a_stage_is_given_the_services_that_it_names() -> None:
    """And only those: by the names of its constructor's parameters."""
    assert construct("auth").clients is SERVICES["clients"]
    assert construct("idempotency").claims is STORE
    assert construct("validation").schema is SERVICES["schema"]
    assert construct("provider_gate").providers is SERVICES["providers"]
    assert construct("provider_gate").enabled is False
    assert construct("quota").quotas is STORE
    assert construct(OWN, most=3).clients is SERVICES["clients"]


def test_a_stage_is_given_its_options() -> None:
    """What stands in ``[stage.NAME]`` reaches the constructor."""
    assert construct("quota", on_store_error="allow").policy.rejects is False
    assert construct("quota").policy.rejects is True
    assert (construct(OWN, most=3, least=2).most, construct(OWN, most=3).least) == (3, 0)


def test_a_stage_that_takes_any_option_is_given_them_all() -> None:
    """Services by their names, everything else as it is written."""
    stage = construct(CATCH_ALL, most=3, x=1, options={"y": 2})
    assert stage.clients is SERVICES["clients"]
    assert (stage.most, stage.options) == (3, {"x": 1, "options": {"y": 2}})


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (OWN, {"most": 3}, []),
        (OWN, {"most": 3, "least": 3}, []),
        (OWN, {}, ["most: must be set"]),
        (OWN, {"mots": 3}, ["most: must be set", "mots: is not known: did you mean 'most'?"]),
        (OWN, {"most": 3, "x": 1}, ["x: is not known: the stage takes most, least"]),
        (OWN, {"most": 3, "least": 4}, ["most must not be less than least"]),
        (OWN, {"most": 3, "clients": 4}, ["clients: is not known: the stage takes most, least"]),
        (CATCH_ALL, {}, []),
        (CATCH_ALL, {"most": 3, "x": 1, "rest": 2}, []),
        (PUNCTUAL, {}, []),
        (BROKEN, {"path": "x"}, ["cannot be built: FileNotFoundError: [Errno 2] No such file: 'x'"]),
        (
            "auth",
            {"x": 1, "y": 2},
            [f"{name}: is not known: the stage takes no options" for name in "xy"],
        ),
        ("quota", {"on_store_error": "x"}, ["on_store_error must be 'reject' or 'allow'"]),
        ("quota", {"app": 1}, ["app: is not known: the stage takes on_store_error"]),
    ],
    ids=str,
)
def test_every_mistake_in_options_is_told(name: str, options: dict[str, Any], told: list[str]) -> None:
    """Unknown, missing and refused ones are told with the stage's table, each with what to write."""
    assert wiring.mistakes([name], {name: options}, SERVICES) == [f"[stage.{name}] {words}" for words in told]


def test_the_mistakes_of_all_stages_are_told_at_once() -> None:
    """One stage's mistake hides no other's."""
    options: wiring.Options = {"auth": {"x": 1}, "quota": {"on_store_error": "x"}}
    assert len(wiring.mistakes(DEFAULT_ORDER, options, SERVICES)) == 2
