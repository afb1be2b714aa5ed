"""From the configured order to the stages: each class with its services, by type, and its options, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, get_type_hints

from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from pipeline import order
from pipeline.ports import Claims, Clients, Clock, Downstream, Exposure, GateSwitch, Quotas, Telemetry
from pipeline.providers import Providers
from schemas import Schema

Options = Mapping[str, Mapping[str, Any]]
"""The tables ``[stage.NAME]``."""


_NOTHING_BEHIND = Downstream()


@dataclass(frozen=True, slots=True)
class Services:
    """What a stage's constructor may ask for: a parameter annotated with the type of a field is given that field."""

    clients: Clients
    claims: Claims
    quotas: Quotas
    providers: Providers
    clock: Clock
    telemetry: Telemetry
    schema: Schema
    exposure: Exposure
    gate_switch: GateSwitch
    downstream: Downstream = _NOTHING_BEHIND


_TYPES: Mapping[str, type] = get_type_hints(Services)
# Once services were given by name. A stage that was written then is told what to write, not given an option's default.
_ONCE_GIVEN_BY_NAME: Mapping[str, type] = {
    **_TYPES,
    "is_loopback": Exposure,
    "provider_gate_enabled": GateSwitch,
}
_CATCH_ALL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def build(names: Sequence[str], options: Options, services: Services) -> list[tuple[str, Middleware]]:
    """The stages with their names, outermost first; ``names`` and ``options`` have been checked."""
    stages: list[tuple[str, Middleware]] = []
    downstream: frozenset[type] = frozenset()
    for name in reversed(names):
        stage: Any = order.find(name)
        wired = _Parameters(stage).wired(replace(services, downstream=Downstream(downstream)))
        stages.insert(0, (name, Middleware(stage, **wired, **options.get(name, {}))))
        downstream |= stage.provides
    return stages


def mistakes(names: Sequence[str], options: Options, services: Services) -> list[str]:
    """Everything that is wrong with the stages' constructors and options; builds each stage once around nothing.

    ``names`` need not be a legal order; those that are not known are passed over.
    """
    found = []
    for name in dict.fromkeys(names):
        try:
            stage: Any = order.find(name)
        except LookupError:  # A mistake of the order's, which tells it.
            continue
        try:
            parameters = _Parameters(stage)
        except (TypeError, ValueError) as error:
            found.append(f"{table(name)} its constructor cannot be read: {error}")
            continue
        given = options.get(name, {})
        wrong = [*parameters.mistakes, *parameters.missing(given)]
        unknown = parameters.unknown(given)
        found += [f"{table(name)} {mistake}" for mistake in (*wrong, *unknown.values())]
        accepted = {option: value for option, value in given.items() if option not in unknown}
        if wrong:
            continue
        try:
            stage(_nothing, **parameters.wired(services), **accepted)
        except (TypeError, ValueError) as error:
            found.append(f"{table(name)} {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an operator's stage may raise anything
            found.append(f"{table(name)} cannot be built: {type(error).__name__}: {error}")
    return found


def table(name: str) -> str:
    """The head of a stage's table, as TOML has it written."""
    return f'[stage."{name}"]' if order.is_own(name) else f"[stage.{name}]"


class _Parameters:
    """What a stage's constructor takes besides ``app``.

    ``services``: the field of ``Services`` for each parameter that has its type. ``options``: all the others, each with
    whether it must be set. ``mistakes``: what is wrong with the parameters themselves.
    """

    def __init__(self, stage: Any) -> None:
        self.services: dict[str, str] = {}
        self.options: dict[str, bool] = {}
        self.mistakes: list[str] = []
        self.takes_any = False
        fields = {kind: field for field, kind in _TYPES.items()}
        names = getattr(inspect.unwrap(stage.__init__), "__globals__", {})
        for name, parameter in inspect.signature(stage).parameters.items():
            self.takes_any |= parameter.kind is parameter.VAR_KEYWORD
            if name == "app" or parameter.kind in _CATCH_ALL:
                continue
            try:
                kind = _resolved(parameter.annotation, names)
            except Exception as error:  # noqa: BLE001 - an annotation is an expression, and may raise anything
                self.mistakes.append(
                    f"{name}: the annotation '{parameter.annotation}' cannot be resolved "
                    f"({type(error).__name__}: {error}): import what it names when the module runs, "
                    "not under 'if TYPE_CHECKING:'"
                )
                self.options[name] = False
                continue
            meant = _ONCE_GIVEN_BY_NAME.get(name)
            if kind in fields:
                self.services[name] = fields[kind]
            elif meant is not None:
                self.mistakes.append(f"{name}: {_annotated(fields[meant], meant)}")
            else:
                self.options[name] = parameter.default is parameter.empty

    def wired(self, services: Services) -> dict[str, Any]:
        """The services for the parameters that ask for one."""
        return {name: getattr(services, field) for name, field in self.services.items()}

    def missing(self, given: Mapping[str, Any]) -> list[str]:
        """What is said of the options that must be set and are not."""
        required = [name for name, is_required in self.options.items() if is_required]
        return [f"{name}: must be set" for name in required if name not in given]

    def unknown(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The given options that the stage does not take, each with what is said of it."""
        if self.takes_any:
            return {}
        return {name: self._unknown(name) for name in given if name not in self.options}

    def _unknown(self, option: str) -> str:
        for near in difflib.get_close_matches(option, self.options, n=1):
            if len(option) <= len(near) + 3:
                return f"{option}: is not known: did you mean '{near}'?"
        # Not by name: an API key stands there where the heading [clients] was forgotten.
        return f"has an option that is not known: the stage takes {', '.join(self.options) or 'no options'}"


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """What an annotation stands for. Raises whatever its expression raises."""
    if annotation is inspect.Parameter.empty:
        return None
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    kind = get_type_hints(holder, names)["it"]
    return kind if isinstance(kind, type) else None


def _annotated(field: str, kind: type) -> str:
    return (
        f"services are given by type: write '{field}: {kind.__name__}', "
        f"with 'from {kind.__module__} import {kind.__name__}'"
    )


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the inner app while options are checked."""
