"""The cost of providers and of their aliases: start-up, and the way from names to providers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from gateway.config.providers import catalogue
from pipeline.failures import Refused
from pipeline.providers import Providers
from tests.bench.growth.clients import toml as clients_toml
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import start_up
from tests.bench.growth.timing import microseconds


def measure(counts: Sequence[int]) -> list[Table]:
    """For each number of providers, with two aliases each, and of aliases of one provider."""
    many = Table(
        "providers",
        "Providers configured, two aliases each",
        (
            "providers",
            "start-up s",
            "RSS MiB",
            "first µs",
            "last alias µs",
            "sixteen µs",
            "unknown name µs",
            "its refusal bytes",
            "smart selection µs",
            "smart selection, only the last usable µs",
        ),
    )
    one = Table("aliases", "Aliases of one provider", ("aliases", "its name µs", "its last alias µs"))
    for count in counts:
        say(f"{count:,} providers")
        started_up = start_up(clients_toml(1).removeprefix("[providers.alpha]\n") + toml(count))
        document = {name(number): entry(number) for number in range(count)}
        providers = catalogue(document)
        down = catalogue(
            {key: {**value, "is_active": key == name(count - 1)} for key, value in document.items()}
        )
        sixteen = [name(number * (count - 1) // 15) for number in range(16)]
        many.add(
            count,
            started_up.seconds,
            started_up.rss_mib,
            resolving(providers, name(0)),
            resolving(providers, f"second-{name(count - 1)}"),
            resolving(providers, *sixteen),
            resolving(providers, "nobody"),
            refusal_bytes(providers),
            selecting(providers),
            selecting(down),
        )
        aliases = [f"alias-{number}" for number in range(count)]
        single = catalogue({"alpha": {"aliases": aliases}})
        one.add(count, resolving(single, "alpha"), resolving(single, aliases[-1]))
    return [many, one]


def resolving(providers: Providers, *names: str) -> float:
    """The µs that it takes, refusals included."""

    def resolve() -> None:
        with suppress(Refused):
            providers.resolve(names)

    return microseconds(resolve)


def selecting(providers: Providers) -> float:
    """The µs of asking whether smart selection has anything to select from."""
    return microseconds(lambda: providers.any_usable)


def refusal_bytes(providers: Providers) -> int:
    """The length of the details of UNKNOWN_PROVIDER, which are also kept for the replay."""
    try:
        providers.resolve(["nobody"])
    except Refused as refused:
        return len(orjson.dumps(refused.details))
    raise AssertionError("nobody was found")


def toml(count: int) -> str:
    """As an operator's file has it."""
    return "".join(
        f"[providers.{name(number)}]\naliases = {orjson.dumps(entry(number)['aliases']).decode()}\n"
        for number in range(count)
    )


def name(number: int) -> str:
    return f"provider-{number:05d}"


def entry(number: int) -> dict[str, Any]:
    return {"aliases": [f"first-{name(number)}", f"second-{name(number)}"]}
