"""The stage ``provider_gate``."""

from __future__ import annotations

import pytest

from pipeline.facts import Claim, Client, Message, Route
from pipeline.failures import Refused
from pipeline.ports import Downstream, GateSwitch
from pipeline.providers import Provider, Providers
from pipeline.stages.provider_gate import ProviderGate
from tests.support.asgi import Exchange, Inner

CATALOGUE = Providers(
    [
        Provider("up", aliases=("u",)),
        Provider("also-up"),
        Provider("off", is_active=False, aliases=("o",)),
        Provider("down", is_operational=False),
    ]
)
NO_CLAIM, CLAIM_COMES = Downstream(), Downstream(frozenset({Claim}))
ON, OFF = GateSwitch(is_on=True), GateSwitch(is_on=False)
NONE_UP = Providers([Provider("off", is_active=False)])


def asking(*names: str) -> Message:
    return Message("+14155552671", "x", 60, names)


async def route(gate: ProviderGate, *facts: object) -> tuple[str, ...]:
    assert isinstance(gate.app, Inner)
    await Exchange().through(gate, *facts)
    return gate.app.context[Route].providers


async def refused(message: Message, providers: Providers = CATALOGUE, switch: GateSwitch = ON) -> Refused:
    inner = Inner()
    with pytest.raises(Refused) as raised:
        await Exchange().through(ProviderGate(inner, providers, switch, NO_CLAIM), message)
    assert inner.reached == []
    return raised.value


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("up",), ("up",)),
        (("U",), ("up",)),
        (("also-up", "up"), ("also-up", "up")),
        (("down", "up", "off", "also-up"), ("up", "also-up")),
        (("up", "UP", "u"), ("up",)),
        (("off", "up"), ("up",)),
        ((), ()),
    ],
    ids=str,
)
async def test_unusable_providers_are_dropped_and_the_order_is_kept(
    names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """The route has canonical names in the caller's order; asked for none, it stays empty."""
    assert await route(ProviderGate(Inner(), CATALOGUE, ON, NO_CLAIM), asking(*names)) == expected


async def test_a_caller_who_wrote_no_providers_leaves_the_choice() -> None:
    """Absent and null are smart selection, like an empty list."""
    message = Message("+14155552671", "x", 60, None)
    assert await route(ProviderGate(Inner(), CATALOGUE, ON, NO_CLAIM), message) == ()


@pytest.mark.parametrize(
    ("names", "code", "asked_for"),
    [
        (("off",), "PROVIDER_DISABLED", ["off"]),
        (("down",), "PROVIDER_DISABLED", ["down"]),
        (("o", "OFF"), "PROVIDER_DISABLED", ["off"]),
        (("off", "down"), "ALL_PROVIDERS_DISABLED", ["off", "down"]),
    ],
    ids=str,
)
async def test_when_none_is_usable_the_request_is_refused(
    names: tuple[str, ...], code: str, asked_for: list[str]
) -> None:
    """One provider asked for, however often, is exclusive; several are a failover with nothing left."""
    failure = await refused(asking(*names))
    assert failure.code.name == code
    assert failure.details == {"providers": asked_for}


async def test_smart_selection_from_nothing_is_refused_for_now() -> None:
    """The answer says when to try again, for a provider may come back."""
    failure = await refused(asking(), NONE_UP)
    assert failure.code.name == "NO_PROVIDER_AVAILABLE"
    assert failure.retry_after is not None
    assert failure.retry_after >= 1


@pytest.mark.parametrize("switch", [ON, OFF])
async def test_unknown_names_are_refused_before_states_are_looked_at(switch: GateSwitch) -> None:
    """An unknown name beside a disabled one is UNKNOWN_PROVIDER, with the gate's switch on or off."""
    assert (await refused(asking("off", "x"), switch=switch)).code.name == "UNKNOWN_PROVIDER"


async def test_a_gate_that_is_switched_off_resolves_and_judges_nothing() -> None:
    """With PROVIDER_GATE_ENABLED=false aliases still become names, and states are not looked at."""
    gate = ProviderGate(Inner(), CATALOGUE, OFF, NO_CLAIM)
    assert await route(gate, asking("o", "down", "u")) == ("off", "down", "up")
    assert await route(ProviderGate(Inner(), NONE_UP, OFF, NO_CLAIM), asking()) == ()


async def test_what_may_be_on_the_queue_already_is_not_refused_any_more() -> None:
    """A resumed claim keeps its providers, though they were disabled meanwhile."""
    for catalogue, asked_for, found in ((CATALOGUE, asking("off"), ("off",)), (NONE_UP, asking(), ())):
        inner, exchange = Inner(), Exchange()
        exchange.context.may_be_published = True
        await exchange.through(ProviderGate(inner, catalogue, ON, NO_CLAIM), asked_for)
        assert inner.context[Route].providers == found


async def test_a_claim_that_was_not_armed_before_is_judged() -> None:
    """Only an earlier publish lifts the judgement, not every key."""
    claim = Claim.on(Client("acme"), "key", b"\0" * 32)
    with pytest.raises(Refused, match="PROVIDER_DISABLED"):
        await Exchange().through(ProviderGate(Inner(), CATALOGUE, ON, NO_CLAIM), asking("off"), claim)


async def test_names_that_are_unknown_by_now_are_left_out_of_what_may_be_on_the_queue() -> None:
    """A provider that was taken out of the configuration cannot refuse a resumed claim either."""
    inner, exchange = Inner(), Exchange()
    exchange.context.may_be_published = True
    await exchange.through(ProviderGate(inner, CATALOGUE, ON, NO_CLAIM), asking("gone", "U", "off"))
    assert inner.context[Route].providers == ("up", "off")


@pytest.mark.parametrize(
    ("asked_for", "code"),
    [("off", "PROVIDER_DISABLED"), ("gone", "UNKNOWN_PROVIDER")],
)
async def test_a_refusal_waits_for_a_claim_that_comes_later(asked_for: str, code: str) -> None:
    """Whether it stands is known behind the claim; until then the request goes on."""
    inner = Inner()
    await Exchange().through(ProviderGate(inner, CATALOGUE, ON, CLAIM_COMES), asking(asked_for))
    with pytest.raises(Refused, match=code):
        inner.context.raise_deferred()
