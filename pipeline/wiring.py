"""From the configured order to the stages: each class with its services and its options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from pipeline import order

Services = Mapping[str, Any]
"""What a stage's constructor may ask for, by the name of its parameter; ``pipeline.stage`` lists them."""

Options = Mapping[str, Mapping[str, Any]]
"""The tables ``[stage.NAME]``."""


def build(names: Sequence[str], options: Options, services: Services) -> list[tuple[str, Middleware]]:
    """The stages with their names, outermost first; ``names`` and ``options`` have been checked."""
    stages: list[tuple[str, Middleware]] = []
    for name in names:
        stage: Any = order.find(name)
        stages.append((name, Middleware(stage, **_wired(stage, services), **options.get(name, {}))))
    return stages


def mistakes(names: Sequence[str], options: Options, services: Services) -> list[str]:
    """Everything that is wrong with the stages' options, found by building each stage once around nothing.

    ``names`` need not be a legal order; those that are not known are passed over.
    """
    found = []
    for name in dict.fromkeys(names):
        try:
            stage: Any = order.find(name)
        except LookupError:  # A mistake of the order's, which tells it.
            continue
        known = {key: value for key, value in _parameters(stage).items() if key not in services}
        given = options.get(name, {})
        required = [option for option, parameter in known.items() if parameter.default is parameter.empty]
        missing = [option for option in required if option not in given]
        found += [f"[stage.{name}] {option}: must be set" for option in missing]
        unknown = [] if _takes_any(stage) else [option for option in given if option not in known]
        found += [f"[stage.{name}] {option}: {_unknown(option, list(known))}" for option in unknown]
        accepted = {option: value for option, value in given.items() if option not in unknown}
        if missing:
            continue
        try:
            stage(_nothing, **_wired(stage, services), **accepted)
        except (TypeError, ValueError) as error:
            found.append(f"[stage.{name}] {error}")
        except Exception as error:  # noqa: BLE001 - an operator's stage may raise anything
            found.append(f"[stage.{name}] cannot be built: {type(error).__name__}: {error}")
    return found


def _wired(stage: Any, services: Services) -> dict[str, Any]:
    return {parameter: services[parameter] for parameter in _parameters(stage) if parameter in services}


def _parameters(stage: Any) -> dict[str, inspect.Parameter]:
    """Those that have a name of their own, besides ``app``."""
    catch_all = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(stage).parameters.items()
    return {
        name: parameter for name, parameter in parameters if name != "app" and parameter.kind not in catch_all
    }


def _takes_any(stage: Any) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(stage).parameters.values())


def _unknown(option: str, known: list[str]) -> str:
    near = difflib.get_close_matches(option, known, n=1)
    if near:
        return f"is not known: did you mean '{near[0]}'?"
    return f"is not known: the stage takes {', '.join(known) or 'no options'}"


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the inner app while options are checked."""
