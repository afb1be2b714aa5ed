"""The order of the stages: what is wrong with one, which one would work, and what a legal one gives up.

The order is the literal list in configuration. Whether it is legal follows from what the stages say of themselves
(``needs``, ``provides``, ``follows``); there are no priorities and no phases.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.publish import Publish
from pipeline.stage import Stage
from pipeline.stages.anonymous import Anonymous
from pipeline.stages.auth import Auth
from pipeline.stages.idempotency import Idempotency
from pipeline.stages.provider_gate import ProviderGate
from pipeline.stages.quota import Quota
from pipeline.stages.validation import Validation

StageClass = type[Stage]

# Each stands where it does for a reason: nobody unknown gets further than auth; a replay needs no second validation;
# what is not valid is not routed; what is refused by the gate spends no quota; quota is taken last of all.
DEFAULT_ORDER = ("auth", "idempotency", "validation", "provider_gate", "quota")

BUILT_IN: Mapping[str, StageClass] = {
    "auth": Auth,
    "anonymous": Anonymous,
    "idempotency": Idempotency,
    "validation": Validation,
    "provider_gate": ProviderGate,
    "quota": Quota,
}

_WEAKER = (
    ("validation", "auth", "strangers may probe the schema"),
    ("provider_gate", "auth", "strangers may learn the names of the providers"),
    ("validation", "idempotency", "its refusals are judged anew, not replayed"),
    ("provider_gate", "idempotency", "its refusals are judged anew, not replayed"),
    ("quota", "provider_gate", "requests that the gate refuses take quota and give it back"),
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why an order is refused: the stage, the reason, and an order of the same stages that would work."""

    stage: str
    reason: str
    working_order: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"stage '{self.stage}' {self.reason}. An order that would work: {', '.join(self.working_order)}"
        )


def find(name: str) -> StageClass:
    """The class of a built-in stage, or of an operator's own by its import path ``package.module:Class``.

    Raises ``LookupError``, which says what is wrong with the name and what may have been meant.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if ":" not in name:
        near = _nearest(name)
        meant = f"did you mean '{near}'? " if near else ""
        raise LookupError(
            f"is not known: {meant}There are {', '.join(BUILT_IN)}, and your own by 'package.module:Class'"
        )
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (
        Exception
    ) as error:  # Importing runs the operator's code: whatever it raises is a mistake to report.
        raise LookupError(f"cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and _looks_like_a_stage(found)):
        raise LookupError(
            "is no stage: it must be a class with __call__ and sets of types in 'needs' and 'provides'"
        )
    return found


def _nearest(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.5)), None)


def _looks_like_a_stage(found: type) -> bool:
    declared = [getattr(found, attribute, None) for attribute in ("needs", "provides")]
    if not isinstance(getattr(found, "follows", {}), Mapping):
        return False
    return callable(getattr(found, "__call__", None)) and all(  # noqa: B004 - the class itself is always callable
        isinstance(facts, (set, frozenset)) and all(isinstance(fact, type) for fact in facts)
        for facts in declared
    )


def mistakes(order: Sequence[str]) -> list[Mistake]:
    """Everything for which ``order`` is refused; empty when it is legal."""
    found = _faults(order)
    working = working_order(order) if found else ()
    return [Mistake(name, reason, working) for name, reason in found]


def _faults(order: Sequence[str]) -> list[tuple[str, str]]:
    """The stages that are at fault, each with the reason."""
    found: list[tuple[str, str]] = []
    known: dict[str, StageClass] = {}
    for name in order:
        if name in known:
            found.append((name, "stands there twice"))
            continue
        try:
            known[name] = find(name)
        except LookupError as error:
            found.append((name, str(error)))
    provided: dict[type, str] = {}
    names = list(known)
    for position, name in enumerate(names):
        stage, later = known[name], names[position + 1 :]
        found += [(name, _unmet(fact, later, known)) for fact in _sorted(stage.needs - provided.keys())]
        for fact, reason in _follows(stage).items():
            found += [
                (name, f"must stand after '{other}': {reason}")
                for other in later
                if fact in known[other].provides
            ]
        found += [
            (name, f"provides the {_word(fact)}, as '{provided[fact]}' does already")
            for fact in _sorted((stage.provides - stage.needs) & provided.keys())
        ]
        provided |= dict.fromkeys(stage.provides, name)
    found += [("publish", _unmet(fact, [], known)) for fact in _sorted(Publish.needs - provided.keys())]
    return found


def warnings(order: Sequence[str]) -> list[str]:
    """What a legal order gives up, a sentence each; empty for the default order."""
    position = {name: index for index, name in enumerate(order)}
    found = [
        f"'{first}' stands before '{then}': {why}"
        for first, then, why in _WEAKER
        if first in position and then in position and position[first] < position[then]
    ]
    if "idempotency" not in position:
        found.append("there is no 'idempotency': a retry may send twice")
    return found


def working_order(order: Sequence[str]) -> tuple[str, ...]:
    """A legal order of the stages in ``order``: those known or nearly so, each once, and what they lack added.

    Operators' stages that cannot be placed, such as two that need each other's facts, are left out.
    """
    arranged = _arranged(order)
    return _arranged([name for name in order if ":" not in name]) if _faults(arranged) else arranged


def _arranged(order: Sequence[str]) -> tuple[str, ...]:
    waiting: dict[str, StageClass] = {}
    rank: dict[str, float] = {}
    last = -1.0
    for written in order:
        name = written
        try:
            stage = find(name)
        except LookupError:
            near = _nearest(name)
            if near is None:
                continue
            name, stage = near, BUILT_IN[near]
        waiting.setdefault(name, stage)
        # The built-in ones go where the default has them, an operator's own where it stood behind one of those.
        last = float(_default_rank(name)) if name in BUILT_IN else last + 0.01
        rank.setdefault(name, last)
    placed: dict[str, StageClass] = {}
    given_up: set[str] = set()
    while True:
        provided = {fact for stage in placed.values() for fact in stage.provides}
        waiting = {
            name: stage for name, stage in waiting.items() if not (stage.provides - stage.needs) & provided
        }
        lacking = {fact for stage in waiting.values() for fact in stage.needs} | set(Publish.needs)
        coming = {fact for stage in waiting.values() for fact in stage.provides}
        candidates = map(_built_in_provider, _sorted(lacking - provided - coming))
        added = next((name for name in candidates if name and name not in given_up), None)
        if added:
            waiting[added] = BUILT_IN[added]
            rank.setdefault(added, float(_default_rank(added)))
            continue
        ready = [
            name for name, stage in waiting.items() if stage.needs <= provided and not _awaits(stage, waiting)
        ]
        if ready:
            chosen = min(ready, key=rank.__getitem__)
            placed[chosen] = waiting.pop(chosen)
        elif waiting:
            # What only a stage that cannot be placed has asked for goes first, and does not come back.
            given_up.add(waiting.popitem()[0])
        else:
            return tuple(placed)


def _awaits(stage: StageClass, waiting: Mapping[str, StageClass]) -> bool:
    return any(
        fact in other.provides for fact in _follows(stage) for other in waiting.values() if other is not stage
    )


def _default_rank(name: str) -> int:
    return DEFAULT_ORDER.index(name) if name in DEFAULT_ORDER else 0


def _built_in_provider(fact: type) -> str | None:
    return next((name for name in DEFAULT_ORDER if fact in BUILT_IN[name].provides), None)


def _unmet(fact: type, later: Sequence[str], known: Mapping[str, StageClass]) -> str:
    providers = [name for name in later if fact in known[name].provides]
    if providers:
        return f"needs the {_word(fact)}, which '{providers[0]}' provides only later"
    built_in = _built_in_provider(fact)
    hint = f"; '{built_in}' would" if built_in else ""
    return f"needs the {_word(fact)}, which no stage before it provides{hint}"


def _follows(stage: StageClass) -> Mapping[type, str]:
    # An operator's stage need not say anything of it.
    return getattr(stage, "follows", {})


def _word(fact: type) -> str:
    return fact.__name__.lower()


def _sorted(facts: set[type] | frozenset[type]) -> list[type]:
    return sorted(facts, key=_word)


def words(facts: set[type] | frozenset[type]) -> str:
    """The facts as people read them, or a dash for none."""
    return ", ".join(_word(fact) for fact in _sorted(facts)) or "–"
