"""What is configured of the stages: their order, the options of each, and which are disabled and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config import documents
from gateway.config.sources import IN_FILE, Sources
from gateway.config.variables import Variable
from pipeline import order
from pipeline.wiring import table


@dataclass(frozen=True, slots=True)
class ConfiguredStages:
    """``pipeline``: the stages that serve, in their order. ``disabled``: the reason for each. ``options``: by stage."""

    pipeline: tuple[str, ...]
    disabled: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]


def read(sources: Sources, variable: Variable) -> ConfiguredStages:
    """The stages by ``variable`` or its part of the file, and by the tables ``[stage.NAME]``."""
    options, disabled = _tables(sources)
    source, listed = _listed(sources, variable)
    left_out = [name for name in dict.fromkeys(listed) if name in disabled]
    if left_out:
        names = ", ".join(f"'{_shown(name)}'" for name in left_out)
        source = f"{source}, without the disabled {names}"
    effective = tuple(name for name in listed if name not in disabled)
    found = [
        f"{source}: stage '{_shown(mistake.stage)}' {mistake.reason}" for mistake in order.mistakes(effective)
    ]
    if found and (suggestion := order.suggestion(effective)):
        found[-1] += f". {suggestion}"
    sources.mistakes += found
    for name in options:
        # One's own is disabled also for not being importable.
        if name in listed and (name not in disabled or order.is_own(name)):
            continue
        try:
            order.find(name)
        except LookupError as error:
            sources.mistakes.append(f"{table(_shown(name))}: the stage {error}")
        else:
            if name not in listed:
                sources.warnings.append(f"{table(name)} has no effect: the stage is not in the pipeline")
    sources.warnings += order.warnings(effective)
    return ConfiguredStages(effective, disabled, options)


def _shown(name: str) -> str:
    """The name of a stage, or nearly one; anything else may be a secret that got into its place."""
    is_one = order.is_own(name) or documents.meant(name, (*order.BUILT_IN, "publish"), 0.5)
    return name if is_one else "(not shown)"


def _tables(sources: Sources) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The options by stage, and the reasons by disabled stage."""
    tables = sources.file.get("stage", {})
    options: dict[str, dict[str, Any]] = {}
    disabled: dict[str, str] = {}
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        sources.mistakes.append("stage: write a table for each stage, such as [stage.quota]")
        return options, disabled
    for name, written in tables.items():
        options[name] = {key: value for key, value in written.items() if key != "disabled"}
        if "disabled" not in written:
            continue
        reason = written["disabled"]
        if isinstance(reason, str) and reason.strip():
            disabled[name] = reason
        else:
            sources.mistakes.append(
                f'{table(_shown(name))} disabled: write the reason, as in disabled = "quota is kept elsewhere"'
            )
    return options, disabled


def _listed(sources: Sources, variable: Variable) -> tuple[str, tuple[str, ...]]:
    """The order as it is written, disabled stages included, after the words for where it stands."""
    if sources.is_in_file(variable):
        source = f"{variable.part} {IN_FILE}"
        listed = sources.file[variable.part]
        if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
            return source, tuple(listed)
        sources.mistakes.append(
            f'{source}: write a list of stage names, such as {variable.part} = ["auth", "validation"]'
        )
    text = sources.text(variable.name)
    if text is not None:
        return variable.name, tuple(name.strip() for name in text.split(",") if name.strip())
    return "the default order", order.DEFAULT_ORDER
