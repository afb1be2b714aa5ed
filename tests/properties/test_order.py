"""Orders of stages, whatever an operator writes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline import order
from pipeline.facts import Claim, Client, Message, Reservation, Route
from pipeline.order import BUILT_IN
from pipeline.stage import Stage

FACTS = [Client, Claim, Message, Route, Reservation]


class Tenant:
    """A fact that only an operator's stages know."""


LEGAL = [list(names) for names in itertools.permutations(order.DEFAULT_ORDER) if not order.mistakes(names)]
NAMES = st.sampled_from(
    [*BUILT_IN, "idempotncy", "nothing", "", "acme:", ":", "json:loads", "json:JSONDecoder"]
)


OWN = st.integers(0, 7**3 - 1).map(lambda number: f"acme_any:Stage{number}")


@pytest.fixture(scope="module", autouse=True)
def acme() -> Iterator[None]:
    """A module with an operator's stage for every need, provision and fact followed, one of each or none."""
    module = ModuleType("acme_any")
    choices: list[type | None] = [None, Tenant, *FACTS]
    for number, (need, provision, followed) in enumerate(itertools.product(choices, repeat=3)):
        members = {
            "needs": frozenset({need} - {None}),
            "provides": frozenset({provision} - {None}),
            "follows": {followed: "so it says"} if followed else {},
        }
        setattr(module, f"Stage{number}", type(f"Stage{number}", (Stage,), members))
    sys.modules["acme_any"] = module
    yield
    del sys.modules["acme_any"]


@given(st.lists(NAMES, max_size=10))
def test_the_working_order_works(names: list[str]) -> None:
    """Whatever was written, misspelt or repeated, what is proposed instead is legal."""
    assert misplaced(order.working_order(names)) == []


@given(st.lists(NAMES, max_size=10))
def test_nothing_is_lost_without_need(names: list[str]) -> None:
    """A known stage that was asked for is in the proposal, unless another that provides the same is."""
    working = order.working_order(names)
    for name in set(names) & BUILT_IN.keys():
        assert name in working or (name in {"auth", "anonymous"} and {"auth", "anonymous"} & set(working))
    assert {name for name in names if order.is_own(name)} <= set(working)


def is_legal(names: Sequence[str], terminal: frozenset[type] = frozenset({Client, Message})) -> bool:
    """What the contract says of an order, written down once more: the oracle of the tests below."""
    stages = [order.find(name) for name in names]
    provided: frozenset[type] = frozenset()
    for position, stage in enumerate(stages):
        later = {fact for other in stages[position + 1 :] for fact in other.provides}
        if (
            not stage.needs <= provided
            or (stage.provides - stage.needs) & provided
            or later & {*stage.follows}
        ):
            return False
        provided |= stage.provides
    return len(set(names)) == len(names) and terminal <= provided


@st.composite
def legal_orders(draw: st.DrawFn) -> list[str]:
    """Built-in stages and some of an operator's, one after the other where the one before leaves room for it."""
    choices = [*BUILT_IN, *draw(st.lists(OWN, max_size=8, unique=True))]
    names: list[str] = []
    while fitting := [name for name in choices if is_legal([*names, name], frozenset())]:
        if is_legal(names) and draw(st.booleans()):
            break
        names.append(draw(st.sampled_from(fitting)))
    # Some stages leave no room for those without which nothing is published.
    assume(is_legal(names))
    return names


@given(legal_orders())
def test_a_legal_order_is_accepted(names: list[str]) -> None:
    """With whatever of an operator's own stages between the built-in ones."""
    assert order.mistakes(names) == []


@given(legal_orders(), st.data())
def test_an_order_with_one_stage_elsewhere_is_refused_exactly_when_it_is_not_legal(
    names: list[str], data: st.DataObject
) -> None:
    """Moved, left out or doubled."""
    moved = names.pop(data.draw(st.integers(0, len(names) - 1)))
    for _ in range(data.draw(st.integers(0, 2))):
        names.insert(data.draw(st.integers(0, len(names))), moved)
    assert (order.mistakes(names) == []) == is_legal(names)


def test_of_all_orders_of_built_in_stages_the_legal_ones_are_accepted() -> None:
    """Every selection of them in every order, of which there are 1,957."""
    all_orders = [names for count in range(7) for names in itertools.permutations(BUILT_IN, count)]
    legal = [names for names in all_orders if is_legal(names)]
    assert [names for names in all_orders if not order.mistakes(names)] == legal
    # Neither is the oracle too strict to say anything.
    assert len(legal) > 50


@given(st.lists(NAMES, max_size=8))
def test_a_mistake_names_what_was_written(names: list[str]) -> None:
    """The stage is one of the list, or what was meant by a slip in it, or the terminal handler."""
    meant = {order._nearest(name) for name in names}
    for mistake in order.mistakes(names):
        assert mistake.stage in {*names, *meant, "publish"}
        assert mistake.reason in str(mistake)


@pytest.mark.timeout(60)
@given(st.lists(NAMES | OWN, max_size=6))
def test_the_working_order_of_any_stages_works(names: list[str]) -> None:
    """Whatever an operator's stages say of themselves, circles included, a legal order is found, and soon."""
    assert misplaced(order.working_order(names)) == []


@given(st.data())
def test_a_legal_order_keeps_all_of_its_stages(data: st.DataObject) -> None:
    """Where all of them have a place, none is left out of the order that would work."""
    names = data.draw(st.sampled_from(LEGAL))
    for own, place in data.draw(st.lists(st.tuples(OWN, st.integers(0, 9)), max_size=6)):
        longer = [*names[:place], own, *names[place:]]
        names = names if misplaced(longer) else longer
    assert set(order.working_order(names)) == set(names)


def misplaced(names: Sequence[str]) -> list[str]:
    """The mistakes of an order, but for stages that cannot be imported: their own mistakes nobody else can mend."""
    told = map(str, order.mistakes(names))
    return [
        mistake for mistake in told if "cannot be imported" not in mistake and "is no stage" not in mistake
    ]
