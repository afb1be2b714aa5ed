"""From the configured order to the stages."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Annotated, Any, ClassVar

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

import schemas
from gateway.config.clients import ConfiguredClients
from pipeline import wiring
from pipeline.facts import Message, Route
from pipeline.order import BUILT_IN, DEFAULT_ORDER
from pipeline.ports import Claims, Clients, Clock, Downstream, Exposure, GateSwitch, Quotas, Telemetry
from pipeline.providers import Provider, Providers
from pipeline.stage import Stage
from schemas import Schema
from tests.support.asgi import NOON, Ears, Inner, StandingClock
from tests.support.scripted import ScriptedStore

STORE = ScriptedStore()
SERVICES = wiring.Services(
    clients=ConfiguredClients({"key-0123456789abc": {"name": "acme"}}),
    claims=STORE,
    quotas=STORE,
    providers=Providers([Provider("alpha")]),
    clock=StandingClock(),
    telemetry=Ears(),
    schema=schemas.load("request"),
    exposure=Exposure(is_loopback=True),
    gate_switch=GateSwitch(is_on=False),
)
UNKNOWN = "has an option that is not known: the stage takes "
OWN = "acme_wired:Limits"
CATCH_ALL = "acme_wired:CatchAll"
PUNCTUAL = "acme_wired:Punctual"
BROKEN = "acme_wired:Broken"
GREEDY = "acme_wired:Greedy"
RECORD = "acme_wired:Record"


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

    def __init__(self, app: ASGIApp, time: Clock) -> None:
        super().__init__(app)
        self.since = time.now()


class Greedy(Stage):
    """An operator's own that asks for everything there is, by names of its own."""

    def __init__(
        self,
        app: ASGIApp,
        a: Clients,
        b: Claims,
        c: Quotas,
        d: Providers,
        e: Clock,
        f: Annotated[Telemetry, "in good hands"],
        g: Schema,
        h: Exposure,
        i: GateSwitch,
        j: Downstream,
    ) -> None:
        super().__init__(app)
        self.given = (a, b, c, d, e, f, g, h, i, j)


@dataclass
class Record:
    """An operator's own that derives from nothing; Python writes its constructor."""

    needs: ClassVar[frozenset[type]] = frozenset()
    provides: ClassVar[frozenset[type]] = frozenset()
    app: ASGIApp
    clock: Clock
    most: int = 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Broken(Stage):
    """An operator's own that cannot be made."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        super().__init__(app)
        raise FileNotFoundError(2, "No such file", path)


class Ending(Stage):
    """An operator's own that ends the process."""

    def __init__(self, app: ASGIApp) -> None:
        raise SystemExit(7)


class Unreadable(Stage):
    """An operator's own whose constructor is none."""

    __init__: Any = 5


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of an operator's own stages."""
    module = ModuleType("acme_wired")
    for stage in (Limits, CatchAll, Punctual, Broken, Greedy, Record, Ending, Unreadable):
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


def test_a_stage_is_given_the_services_of_its_parameters_types() -> None:
    """And only those, whatever the parameters of its constructor are called."""
    assert construct("auth").clients is SERVICES.clients
    assert construct("idempotency").claims is STORE
    assert construct("validation").schema is SERVICES.schema
    assert construct("provider_gate").providers is SERVICES.providers
    assert construct("provider_gate").enabled is False
    assert construct("quota").quotas is STORE
    assert construct(OWN, most=3).clients is SERVICES.clients
    assert construct(PUNCTUAL).since == NOON


@pytest.mark.parametrize("name", ["quota", "acme.stages:Limits"])
def test_a_stage_s_table_is_told_as_toml_has_it(name: str) -> None:
    """What a mistake names can be written as it stands."""
    assert tomllib.loads(wiring.table(name)) == {"stage": {name: {}}}


def test_every_service_has_a_type_of_its_own() -> None:
    """A stage may ask for all of them at once."""
    assert construct(GREEDY).given == tuple(getattr(SERVICES, field.name) for field in fields(SERVICES))


def test_each_stage_is_told_what_those_behind_it_provide() -> None:
    """Its own facts and those before it are none of them."""
    names = ("auth", "idempotency", GREEDY, "validation", "provider_gate")
    built = dict(wiring.build(names, {}, SERVICES))
    assert built[GREEDY].kwargs["j"] == Downstream(frozenset({Message, Route}))
    assert built["provider_gate"].kwargs["downstream"] == Downstream(frozenset())


def test_a_stage_need_not_write_its_constructor() -> None:
    """That of a data class has annotations as well."""
    stage = construct(RECORD, most=2)
    assert (stage.clock, stage.most) == (SERVICES.clock, 2)


def test_a_stage_is_given_its_options() -> None:
    """What stands in ``[stage.NAME]`` reaches the constructor."""
    assert construct("quota", on_store_error="allow").policy.rejects is False
    assert construct("quota").policy.rejects is True
    assert (construct(OWN, most=3, least=2).most, construct(OWN, most=3).least) == (3, 0)


def test_a_stage_that_takes_any_option_is_given_them_all() -> None:
    """Services by their types, everything else as it is written."""
    stage = construct(CATCH_ALL, most=3, x=1, options={"y": 2})
    assert stage.clients is SERVICES.clients
    assert (stage.most, stage.options) == (3, {"x": 1, "options": {"y": 2}})


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (OWN, {"most": 3}, []),
        (OWN, {"most": 3, "least": 3}, []),
        (OWN, {}, ["most: must be set"]),
        (OWN, {"mots": 3}, ["most: must be set", "mots: is not known: did you mean 'most'?"]),
        (OWN, {"most": 3, "x": 1}, [UNKNOWN + "most, least"]),
        (OWN, {"most": 3, "least": 4}, ["most must not be less than least"]),
        (OWN, {"most": 3, "clients": 4}, [UNKNOWN + "most, least"]),
        (CATCH_ALL, {}, []),
        (CATCH_ALL, {"most": 3, "x": 1, "rest": 2}, []),
        (PUNCTUAL, {}, []),
        (PUNCTUAL, {"time": 1}, [UNKNOWN + "no options"]),
        (GREEDY, {}, []),
        (RECORD, {"most": 2}, []),
        (RECORD, {"mots": 2}, ["mots: is not known: did you mean 'most'?"]),
        (BROKEN, {"path": "x"}, ["cannot be built: FileNotFoundError: [Errno 2] No such file: 'x'"]),
        ("acme_wired:Ending", {}, ["cannot be built: SystemExit: 7"]),
        ("acme_wired:Unreadable", {}, ["its constructor cannot be read: 5 is not a callable object"]),
        (
            "auth",
            {"x": 1, "y": 2},
            [UNKNOWN + "no options"] * 2,
        ),
        ("quota", {"on_store_error": "x"}, ["on_store_error must be 'reject' or 'allow'"]),
        ("quota", {"app": 1}, [UNKNOWN + "on_store_error"]),
    ],
    ids=str,
)
def test_every_mistake_in_options_is_told(name: str, options: dict[str, Any], told: list[str]) -> None:
    """Unknown, missing and refused ones are told with the stage's table, each with what to write."""
    assert wiring.mistakes([name], {name: options}, SERVICES) == [
        f"{wiring.table(name)} {words}" for words in told
    ]


def asking(parameter: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a stage with this parameter, as an operator would write it."""
    module = ModuleType("acme_asking")
    source = f"""
from __future__ import annotations
from pipeline.stage import Stage
class Asking(Stage):
    def __init__(self, app: NobodyLooks, {parameter}):
        super().__init__(app)
"""
    exec(source, module.__dict__)  # noqa: S102 - what stands above
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return "acme_asking:Asking"


@pytest.mark.parametrize(
    ("parameter", "meant", "module"),
    [
        ("clock", "clock: Clock", "pipeline.ports"),
        ("claims: object = None", "claims: Claims", "pipeline.ports"),
        ("schema", "schema: Schema", "schemas"),
        ("is_loopback: bool", "exposure: Exposure", "pipeline.ports"),
        ("provider_gate_enabled=True", "gate_switch: GateSwitch", "pipeline.ports"),
    ],
)
def test_a_stage_that_asks_for_a_service_by_name_is_told_what_to_write(
    parameter: str, meant: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services were once given so: nobody is given an option's default instead without a word."""
    name, kind = asking(parameter, monkeypatch), meant.partition(": ")[2]
    (told,) = wiring.mistakes([name], {}, SERVICES)
    asked = re.split("[:=]", parameter)[0]
    assert told.startswith(f"{wiring.table(name)} {asked}: services are given by type: ")
    assert told.endswith(f": write '{meant}', with 'from {module} import {kind}'")


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("Clock", "NameError: name 'Clock' is not defined"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_annotation_that_means_nothing_is_told(
    annotation: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might be a service's: its import must not be for the type checker only."""
    name = asking(f"x: {annotation}", monkeypatch)
    (told,) = wiring.mistakes([name], {name: {"x": 1}}, SERVICES)
    assert wiring.mistakes([name], {}, SERVICES) == [told]
    assert told.startswith(
        f"{wiring.table(name)} x: the annotation '{annotation}' cannot be resolved ({reason}): "
    )
    assert told.endswith(": import what it names when the module runs, not under 'if TYPE_CHECKING:'")


@pytest.mark.parametrize(
    "parameter", ["x: list[str] | None = None", "x: None = None", "x=1", "*, x: str = ''"]
)
def test_every_other_parameter_is_an_option(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whatever annotation, and without one."""
    name = asking(parameter, monkeypatch)
    assert wiring.mistakes([name], {name: {"x": None}}, SERVICES) == []
    assert wiring.mistakes([name], {name: {"y": None}}, SERVICES) == [f"{wiring.table(name)} {UNKNOWN}x"]


def test_the_mistakes_of_all_stages_are_told_at_once() -> None:
    """One stage's mistake hides no other's."""
    options: wiring.Options = {"auth": {"x": 1}, "quota": {"on_store_error": "x"}}
    assert len(wiring.mistakes(DEFAULT_ORDER, options, SERVICES)) == 2
