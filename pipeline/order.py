"""The order of the stages: what is wrong with one, which one would work, and what a legal one gives up.

The order is the literal list in configuration. Whether it is legal follows from what the stages say of themselves
(``needs``, ``provides``, ``follows``); there are no priorities and no phases.
"""

from __future__ import annotations

import difflib
import importlib
import re
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
    ("validation", "idempotency", "its refusals are judged anew, not replayed"),
    (
        "provider_gate",
        "idempotency",
        "each replay pays for it, and what it refuses waits for the claim all the same",
    ),
    ("quota", "provider_gate", "requests that the gate refuses take quota and give it back"),
)
# Otherwise its refusals wait for the claim, which comes behind 'auth'.
_WEAKER_WITHOUT_CLAIMS = (
    *_WEAKER,
    ("provider_gate", "auth", "strangers may learn the names of the providers"),
)


is_own = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*").fullmatch  # An import path, and no URL.


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why an order is refused: the stage that is at fault, and the reason."""

    stage: str
    reason: str

    def __str__(self) -> str:
        return f"stage '{self.stage}' {self.reason}"


def find(name: str) -> StageClass:
    """The class of a built-in stage, or of an operator's own by its import path ``package.module:Class``.

    Raises ``LookupError``, which says what is wrong with the name and what may have been meant.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if not is_own(name):
        near = _nearest(name)
        meant = f"did you mean '{near}'? " if near else ""
        raise LookupError(
            f"is not known: {meant}There are {', '.join(BUILT_IN)}, and your own by 'package.module:Class'"
        )
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
        is_stage = isinstance(found, type) and _looks_like_a_stage(found)
    # Importing runs the operator's code: whatever it raises, or ends the process by, is a mistake to report.
    except (Exception, SystemExit) as error:
        raise LookupError(
            f"cannot be imported: {type(error).__name__}: {error}{_where_to_find(module_name, error)}"
        ) from error
    if not is_stage:
        raise LookupError(
            "is no stage: it must be a class with __call__ and sets of types in 'needs' and 'provides'"
        )
    stage: StageClass = found
    return stage


def _nearest(name: str) -> str | None:
    if is_own(name):
        return None
    return next(iter(difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.5)), None)


def _looks_like_a_stage(found: type) -> bool:
    declared = [getattr(found, attribute, None) for attribute in ("needs", "provides")]
    if not isinstance(getattr(found, "follows", {}), Mapping):
        return False
    return callable(getattr(found, "__call__", None)) and all(  # noqa: B004 - the class itself is always callable
        isinstance(facts, (set, frozenset)) and all(isinstance(fact, type) for fact in facts)
        for facts in declared
    )


def _where_to_find(module_name: str, error: BaseException) -> str:
    """What to do when it is the stage's own module, or a package around it, that is not there."""
    if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
        return f". Put the folder that holds '{module_name.partition('.')[0]}' into PYTHONPATH"
    return ""


def mistakes(order: Sequence[str]) -> list[Mistake]:
    """Everything for which ``order`` is refused; empty when it is legal. ``suggestion`` tells a way out of all."""
    found: list[Mistake] = []
    known: dict[str, StageClass] = {}
    for name in order:
        if name in known:
            found.append(Mistake(name, "stands there twice"))
            continue
        try:
            known[name] = find(name)
        except LookupError as error:
            found.append(Mistake(name, str(error)))
            near = _nearest(name)
            if near and near not in order:
                # Or one slip would be told again as a need of each stage behind it.
                known[near] = BUILT_IN[near]
    return found + _misplaced(known)


def _misplaced(stages: Mapping[str, StageClass]) -> list[Mistake]:
    """What is wrong with the places of these stages, which stand in their order."""
    found: list[Mistake] = []
    provided: dict[type, str] = {}
    names = list(stages)
    for position, (name, stage) in enumerate(stages.items()):
        later = names[position + 1 :]
        found += [
            Mistake(name, _unmet(fact, later, stages)) for fact in _sorted(stage.needs - provided.keys())
        ]
        for fact, reason in _follows(stage).items():
            found += [
                Mistake(name, f"must stand after '{other}': {reason}")
                for other in later
                if fact in stages[other].provides
            ]
        found += [
            Mistake(name, f"provides the {_word(fact)}, as '{provided[fact]}' does already")
            for fact in _sorted((stage.provides - stage.needs) & provided.keys())
        ]
        provided |= dict.fromkeys(stage.provides, name)
    lacking = _sorted(Publish.needs - provided.keys())
    return found + [Mistake("publish", _unmet(fact, [], stages)) for fact in lacking]


def warnings(order: Sequence[str]) -> list[str]:
    """What a legal order gives up, a sentence each; empty for the default order."""
    position = {name: index for index, name in enumerate(order)}
    found = [
        f"'{first}' stands before '{then}': {why}"
        for first, then, why in (_WEAKER if "idempotency" in position else _WEAKER_WITHOUT_CLAIMS)
        if first in position and then in position and position[first] < position[then]
    ]
    if "idempotency" not in position:
        found.append("there is no 'idempotency': a retry may send twice")
    return found


def suggestion(order: Sequence[str]) -> str | None:
    """A sentence with an order that would work instead of ``order``; None when its places are right as they are."""
    working = working_order(order)
    if working == tuple(order):
        return None
    left_out = [name for name in dict.fromkeys(order) if is_own(name) and name not in working]
    without = f" (no place was found for {', '.join(left_out)})" if left_out else ""
    return f"An order that would work: {', '.join(working)}{without}"


def working_order(order: Sequence[str]) -> tuple[str, ...]:
    """An order of the stages in ``order`` that would work: each once, misspelt ones mended, what they lack added.

    An operator's own stage stays behind those that it stood behind, as far as its needs allow. One that cannot be
    imported does so too, as if it needed nothing; the rest of the order is legal. Left out is what cannot be placed,
    such as two own stages that need each other's facts.
    """
    stages = _recognized(order)
    kept = {name: stage for name, stage in stages.items() if not is_own(name)}
    arranged = _arranged(kept)
    while True:
        # One at a time, and again from the first: what it lacked may have come with a later one.
        for own in [name for name in stages if name not in kept]:
            tried = {name: stage for name, stage in stages.items() if name in kept or name == own}
            placed = _arranged(tried)
            if all(name in placed for name in tried if is_own(name)) and not _misplaced(placed):
                kept, arranged = tried, placed
                break
        else:
            return tuple(arranged)


def _recognized(order: Sequence[str]) -> dict[str, StageClass]:
    """The stages in ``order``, or what they were meant to be."""
    stages: dict[str, StageClass] = {}
    for written in order:
        name = written
        try:
            stage = find(name)
        except LookupError:
            if is_own(name):
                stage = Stage  # Nothing is known of it.
            elif near := _nearest(name):
                name, stage = near, BUILT_IN[near]
            else:
                continue
        stages.setdefault(name, stage)
    return stages


def _arranged(stages: Mapping[str, StageClass]) -> dict[str, StageClass]:
    """These stages in their order, what they lack added; what cannot be placed is left out."""
    waiting = dict(stages)
    rank: dict[str, float] = {}
    last = -1.0
    for name in stages:
        # The built-in ones go where the default has them, an operator's own where it stood behind one of those.
        last = float(_default_rank(name)) if name in BUILT_IN else last + 0.01
        rank[name] = last
    placed: dict[str, StageClass] = {}
    while True:
        provided = {fact for stage in placed.values() for fact in stage.provides}
        waiting = {
            name: stage for name, stage in waiting.items() if not (stage.provides - stage.needs) & provided
        }
        lacking = {fact for stage in waiting.values() for fact in stage.needs} | set(Publish.needs)
        coming = {fact for stage in waiting.values() for fact in stage.provides}
        candidates = map(_built_in_provider, _sorted(lacking - provided - coming))
        added = next(filter(None, candidates), None)
        if added:
            waiting[added] = BUILT_IN[added]
            rank.setdefault(added, float(_default_rank(added)))
            continue
        ready = [
            name for name, stage in waiting.items() if stage.needs <= provided and not _awaits(stage, waiting)
        ]
        if not ready:
            return placed
        chosen = min(ready, key=rank.__getitem__)
        placed[chosen] = waiting.pop(chosen)


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
