"""The order of the stages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import permutations
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from pipeline import order
from pipeline.facts import Claim, Client, Message, Reservation, Route
from pipeline.order import BUILT_IN, DEFAULT_ORDER, Mistake
from pipeline.stage import Stage

ALL_NAMES = (
    "There are auth, anonymous, idempotency, validation, provider_gate, quota, "
    "and your own by 'package.module:Class'"
)
ALL_ORDERS = list(permutations(DEFAULT_ORDER))

# What the contract's rules leave of the 120, written down by hand.
LEGAL = {
    "auth, idempotency, validation, provider_gate, quota",
    "auth, idempotency, validation, quota, provider_gate",
    "auth, validation, idempotency, provider_gate, quota",
    "auth, validation, idempotency, quota, provider_gate",
    "auth, validation, provider_gate, idempotency, quota",
    "validation, auth, idempotency, provider_gate, quota",
    "validation, auth, idempotency, quota, provider_gate",
    "validation, auth, provider_gate, idempotency, quota",
    "validation, provider_gate, auth, idempotency, quota",
}


class Tenant:
    """A fact that only an operator's stages know."""


class Blocklist(Stage):
    needs = frozenset({Message})


class Tenancy(Stage):
    provides = frozenset({Tenant})


class NeedsTenant(Stage):
    needs = frozenset({Tenant})


class Rewriter(Stage):
    needs = frozenset({Message})
    provides = frozenset({Message})


class OwnAuth(Stage):
    provides = frozenset({Client})


class LookALike:
    """No subclass of ours, and silent about ``follows``."""

    needs: ClassVar[set[type]] = {Client}
    provides: ClassVar[set[type]] = set()

    def __init__(self, app: object) -> None: ...

    async def __call__(self, scope: object, receive: object, send: object) -> None: ...


class LaterThanRoute(Stage):
    follows: ClassVar[Mapping[type, str]] = {Route: "it looks at the route"}


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of an operator's own stages."""
    module = ModuleType("acme_stages")
    stages: list[Any] = [
        Blocklist,
        Tenancy,
        NeedsTenant,
        Rewriter,
        OwnAuth,
        LookALike,
        LaterThanRoute,
    ]
    for stage in stages:
        setattr(module, stage.__name__, stage)
    for name, value in {
        "not_a_class": SimpleNamespace(needs=set(), provides=set()),
        "NoStage": type("NoStage", (), {}),
        "WrongNeeds": type("WrongNeeds", (Stage,), {"needs": {"client"}}),
        "FollowsNothing": type("FollowsNothing", (Stage,), {"follows": None}),
        "NeedsAList": type("NeedsAList", (Stage,), {"needs": [Client]}),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "acme_stages", module)


def told(names: Sequence[str]) -> list[tuple[str, str]]:
    """The stage and the reason of each mistake; what is proposed instead has none but what cannot be imported."""
    found = [(mistake.stage, mistake.reason) for mistake in order.mistakes(names)]
    left = [(mistake.stage, mistake.reason) for mistake in order.mistakes(order.working_order(names))]
    assert left == [(name, reason) for name, reason in found if reason.startswith(("cannot be", "is no st"))]
    return found


def test_nine_of_the_120_orders_are_legal() -> None:
    """They are the nine that the contract's rules leave."""
    assert len(ALL_ORDERS) == 120
    legal = {", ".join(names) for names in ALL_ORDERS if not order.mistakes(names)}
    assert legal == LEGAL
    assert len(legal) == 9


@pytest.mark.parametrize(
    "names",
    [names for names in ALL_ORDERS if ", ".join(names) not in LEGAL],
    ids=",".join,
)
def test_every_other_order_is_explained(names: tuple[str, ...]) -> None:
    """Each of the 111 has stages with reasons, and all together the default order as one that works."""
    found = order.mistakes(names)
    assert found
    for mistake in found:
        assert mistake.stage in names
        assert mistake.reason
        assert str(mistake) == f"stage '{mistake.stage}' {mistake.reason}"
    assert order.suggestion(names) == (
        "An order that would work: auth, idempotency, validation, provider_gate, quota"
    )


@pytest.mark.parametrize("names", ALL_ORDERS, ids=",".join)
def test_the_mistakes_of_an_order_are_exactly_those_of_the_rules(names: tuple[str, ...]) -> None:
    """Which stage is told of what follows from the contract's table alone, whatever else is wrong."""
    at = names.index
    expected = set()
    for stage, fact, provider in [
        ("idempotency", "client", "auth"),
        ("provider_gate", "message", "validation"),
        ("quota", "client", "auth"),
        ("quota", "message", "validation"),
    ]:
        if at(stage) < at(provider):
            expected.add((stage, f"needs the {fact}, which '{provider}' provides only later"))
    if at("quota") < at("idempotency"):
        expected.add(("quota", "must stand after 'idempotency': otherwise a replay would spend quota"))
    found = told(names)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_all_mistakes_are_told_at_once() -> None:
    """An operator who mends everything that is told is done."""
    assert told(["quota", "provider_gate", "idempotency", "validaton", "auth", "auth"]) == [
        (
            "validaton",
            f"is not known: did you mean 'validation'? {ALL_NAMES}",
        ),
        ("auth", "stands there twice"),
        ("quota", "needs the client, which 'auth' provides only later"),
        ("quota", "needs the message, which 'validation' provides only later"),
        ("quota", "must stand after 'idempotency': otherwise a replay would spend quota"),
        ("provider_gate", "needs the message, which 'validation' provides only later"),
        ("idempotency", "needs the client, which 'auth' provides only later"),
    ]


def test_a_slip_in_a_name_is_one_mistake() -> None:
    """What the stage that was meant provides is not missed as well, unless it is there besides."""
    assert told(["auth", "idempotency", "validaton", "provider_gate", "quota"]) == [
        ("validaton", f"is not known: did you mean 'validation'? {ALL_NAMES}")
    ]
    assert told(["auth", "validaton", "validation"]) == [
        ("validaton", f"is not known: did you mean 'validation'? {ALL_NAMES}")
    ]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("idempotncy", "idempotency"),
        ("provider-gate", "provider_gate"),
        ("Auth", "auth"),
        ("QUOTA", "quota"),
        ("quotas", "quota"),
        ("validate", "validation"),
        ("anonymus", "anonymous"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_known_one(name: str, near: str) -> None:
    """The reason asks whether that was meant."""
    with pytest.raises(LookupError, match=f"did you mean '{near}'?"):
        order.find(name)


def test_a_name_that_is_near_to_none_comes_with_all() -> None:
    """No far-fetched guess is made."""
    with pytest.raises(LookupError) as raised:
        order.find("xyz")
    assert str(raised.value) == f"is not known: {ALL_NAMES}"


def test_a_name_twice_is_told_once_for_each_repetition() -> None:
    """The first one stands; a repetition is no second stage."""
    names = ("auth", "auth", "idempotency", "validation", "provider_gate", "quota", "auth")
    assert told(names) == [("auth", "stands there twice")] * 2


def test_an_order_without_a_client_or_a_message_cannot_publish() -> None:
    """What is missing is told as the terminal handler's need, with the stage that would meet it."""
    assert told([]) == [
        ("publish", "needs the client, which no stage before it provides; 'auth' would"),
        ("publish", "needs the message, which no stage before it provides; 'validation' would"),
    ]
    assert order.working_order([]) == ("auth", "validation")


def test_two_stages_that_provide_the_same_are_refused() -> None:
    """``auth`` and ``anonymous`` exclude each other; the first one stays in the order that would work."""
    assert told(["anonymous", "auth", "validation"]) == [
        ("auth", "provides the client, as 'anonymous' does already")
    ]
    assert order.working_order(["anonymous", "auth", "validation"]) == ("anonymous", "validation")


@pytest.mark.parametrize("missing", DEFAULT_ORDER)
def test_optional_stages_may_be_left_out(missing: str) -> None:
    """Idempotency, gate and quota may go; without client or message nothing can be published."""
    names = [name for name in DEFAULT_ORDER if name != missing]
    assert bool(told(names)) == (missing in {"auth", "validation"})


def test_anonymous_stands_in_for_auth() -> None:
    """Any stage that provides the client will do."""
    assert told(["anonymous", "idempotency", "validation", "provider_gate", "quota"]) == []
    assert told(["acme_stages:OwnAuth", "validation"]) == []


def test_an_operators_stage_is_checked_like_the_rest() -> None:
    """Its needs count where it stands, and the order that would work has it behind what it needs."""
    blocklist = "acme_stages:Blocklist"
    assert told(["auth", "idempotency", "validation", blocklist, "quota"]) == []
    assert told(["auth", blocklist, "validation"]) == [
        (blocklist, "needs the message, which 'validation' provides only later")
    ]
    assert order.working_order(["auth", blocklist, "validation"]) == ("auth", "validation", blocklist)


def test_an_operators_facts_are_checked_like_ours() -> None:
    """A need that only another of the operator's stages meets is told without a guess of ours."""
    needs, tenancy = "acme_stages:NeedsTenant", "acme_stages:Tenancy"
    assert told(["auth", "validation", tenancy, needs]) == []
    assert told(["auth", "validation", needs, tenancy]) == [
        (needs, f"needs the tenant, which '{tenancy}' provides only later")
    ]
    assert told(["auth", "validation", needs]) == [
        (needs, "needs the tenant, which no stage before it provides")
    ]
    assert order.working_order(["auth", "validation", needs]) == ("auth", "validation")
    assert order.suggestion(["auth", "validation", needs]) == (
        f"An order that would work: auth, validation (no place was found for {needs})"
    )


def test_one_stage_without_a_place_takes_no_other_with_it() -> None:
    """What an operator has written of their own stays in the order that would work, wherever that is possible."""
    needs, blocklist, late = (
        f"acme_stages:{name}" for name in ("NeedsTenant", "Blocklist", "LaterThanRoute")
    )
    names = [blocklist, needs, "auth", "validation", late, "provider_gate"]
    assert order.working_order(names) == ("auth", "validation", blocklist, "provider_gate", late)
    tenancy = "acme_stages:Tenancy"
    assert order.working_order([needs, tenancy, "auth", "validation"]) == (
        tenancy,
        needs,
        "auth",
        "validation",
    )


def test_a_stage_that_cannot_be_imported_keeps_its_place() -> None:
    """Nothing is known of its needs, and who mends its import should not have to write the order anew."""
    missing = "no_such_module_of_acme:Stage"
    assert order.suggestion(["auth", "validation", missing, "quota"]) is None
    assert order.suggestion(["auth", missing, "quota", "validation"]) == (
        f"An order that would work: auth, {missing}, validation, quota"
    )


def test_a_stage_may_rewrite_what_it_needs() -> None:
    """Who needs a message and provides one changes it: that is no second provider."""
    assert told(["auth", "validation", "acme_stages:Rewriter", "quota"]) == []


def test_a_stage_that_only_looks_like_one_is_one() -> None:
    """It need not derive from ours, nor say what it follows."""
    assert told(["auth", "validation", "acme_stages:LookALike"]) == []
    assert told(["acme_stages:LookALike", "auth", "validation"]) == [
        ("acme_stages:LookALike", "needs the client, which 'auth' provides only later")
    ]


def test_what_an_operators_stage_follows_is_heeded() -> None:
    """The reason is the one that the stage gives."""
    late = "acme_stages:LaterThanRoute"
    names = ["auth", "validation", late, "provider_gate"]
    assert told(names) == [(late, "must stand after 'provider_gate': it looks at the route")]
    assert told(["auth", "validation", "provider_gate", late]) == []
    assert told(["auth", "validation", late]) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "no_such_module_of_acme.stages:Stage",
            (
                "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_of_acme'. "
                "Put the folder that holds 'no_such_module_of_acme' into PYTHONPATH"
            ),
        ),
        ("acme_stages:Missing", "cannot be imported: AttributeError"),
        (":Stage", "is not known"),
        ("acme_stages:", "is not known"),
        ("amqp://user:s3cr3t@host/", "is not known: There are"),
        ("acme_stages:not_a_class", "is no stage: it must be a class with __call__"),
        ("acme_stages:NoStage", "is no stage"),
        ("acme_stages:WrongNeeds", "is no stage"),
        ("acme_stages:NeedsAList", "is no stage"),
        ("acme_stages:FollowsNothing", "is no stage"),
    ],
)
def test_what_cannot_be_a_stage_is_refused(name: str, reason: str) -> None:
    """Whatever is wrong with an import path is told, and raises nothing else."""
    with pytest.raises(LookupError, match=reason):
        order.find(name)
    ((stage, found),) = told(["auth", "validation", name])
    assert stage == name
    assert found.startswith(reason)


def test_a_module_that_fails_when_imported_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing runs the operator's code: its error is a mistake in the configuration."""
    (tmp_path / "acme_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=r"cannot be imported: ZeroDivisionError: division by zero$"):
        order.find("acme_broken:Stage")


def test_a_module_that_ends_the_process_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that was never meant to be imported: without a word nobody would know why nothing starts."""
    (tmp_path / "acme_script.py").write_text("raise SystemExit('usage: acme_script FILE')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=r"cannot be imported: SystemExit: usage: acme_script FILE$"):
        order.find("acme_script:Stage")


def test_a_class_that_cannot_say_what_it_needs_is_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask it runs the operator's code, too."""
    (tmp_path / "acme_shy.py").write_text(
        "class Meta(type):\n    needs = property(lambda cls: 1 / 0)\nclass Stage(metaclass=Meta):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=r"cannot be imported: ZeroDivisionError"):
        order.find("acme_shy:Stage")


def test_a_module_that_misses_another_is_not_sought_itself(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the stage is known; what is not installed is something else."""
    (tmp_path / "acme_needy.py").write_text("import no_such_library_of_acme")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=r"No module named 'no_such_library_of_acme'$"):
        order.find("acme_needy:Stage")


PROBE = "'validation' stands before 'auth': strangers may probe the schema"
LEARN = "'provider_gate' stands before 'auth': strangers may learn the names of the providers"
ANEW = "'validation' stands before 'idempotency': its refusals are judged anew, not replayed"
GATE_WAITS = (
    "'provider_gate' stands before 'idempotency': each replay pays for it, "
    "and what it refuses waits for the claim all the same"
)
BACK = "'quota' stands before 'provider_gate': requests that the gate refuses take quota and give it back"
TWICE = "there is no 'idempotency': a retry may send twice"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("auth, idempotency, validation, provider_gate, quota", []),
        ("auth, idempotency, validation, quota, provider_gate", [BACK]),
        ("auth, validation, idempotency, provider_gate, quota", [ANEW]),
        ("auth, validation, idempotency, quota, provider_gate", [ANEW, BACK]),
        ("auth, validation, provider_gate, idempotency, quota", [ANEW, GATE_WAITS]),
        ("validation, auth, idempotency, provider_gate, quota", [PROBE, ANEW]),
        ("validation, auth, idempotency, quota, provider_gate", [PROBE, ANEW, BACK]),
        ("validation, auth, provider_gate, idempotency, quota", [PROBE, ANEW, GATE_WAITS]),
        ("validation, provider_gate, auth, idempotency, quota", [PROBE, ANEW, GATE_WAITS]),
        ("auth, validation, provider_gate, quota", [TWICE]),
        ("auth, validation", [TWICE]),
        ("validation, provider_gate, auth, quota", [PROBE, LEARN, TWICE]),
        ("anonymous, idempotency, validation", []),
        ("validation, anonymous, idempotency", [ANEW]),
    ],
)
def test_what_a_legal_order_gives_up_is_told(names: str, expected: list[str]) -> None:
    """Each weaker order is served, with a sentence for each thing it gives up."""
    listed = names.split(", ")
    assert told(listed) == []
    assert order.warnings(listed) == expected


def test_the_built_in_stages_are_those_of_the_contract() -> None:
    """Their names are what operators write; needs and provides are the table's."""
    assert {
        name: (order.words(stage.needs), order.words(stage.provides)) for name, stage in BUILT_IN.items()
    } == {
        "auth": ("–", "client"),
        "anonymous": ("–", "client"),
        "idempotency": ("client", "claim"),
        "validation": ("–", "message"),
        "provider_gate": ("message", "route"),
        "quota": ("client, message", "reservation"),
    }
    assert order.words({Route, Claim, Reservation}) == "claim, reservation, route"


def test_a_mistake_reads_as_a_sentence() -> None:
    """What ``check`` prints names stage and reason."""
    assert str(Mistake("quota", "stands there twice")) == "stage 'quota' stands there twice"
