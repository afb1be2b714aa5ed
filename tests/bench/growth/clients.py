"""The cost of clients: start-up, memory, and finding the one that a key belongs to."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial

from gateway.config import settings
from gateway.config.clients import ConfiguredClients
from tests.bench.growth.report import Table, say
from tests.bench.growth.startup import start_up
from tests.bench.growth.timing import microseconds


def measure(counts: Sequence[int]) -> list[Table]:
    """For each number of clients."""
    table = Table(
        "clients",
        "Clients configured",
        (
            "clients",
            "start-up s",
            "RSS MiB",
            "peak RSS MiB",
            "load JSON s",
            "first key µs",
            "last key µs",
            "unknown key µs",
        ),
    )
    for count in counts:
        say(f"{count:,} clients")
        document = {digest(number): entry(number) for number in range(count)}
        started_up = start_up(toml(count))
        started = time.perf_counter()
        environ = {"REDIS_URL": "embedded:x", "RABBITMQ_URL": "embedded:x"}
        settings.load({**environ, "CLIENT_CONFIG": json.dumps(document)})
        load_seconds = time.perf_counter() - started
        clients = ConfiguredClients(document)
        keys = [api_key(0), api_key(count - 1), b"a key that nobody has"]
        assert [clients.authenticate(key) is not None for key in keys] == [True, True, False]
        times = [microseconds(partial(clients.authenticate, key)) for key in keys]
        table.add(
            count, started_up.seconds, started_up.rss_mib, started_up.peak_rss_mib, load_seconds, *times
        )
    return [table]


def toml(count: int) -> str:
    """As an operator's file has it."""
    entries = (
        f'[clients."{digest(number)}"]\nname = "{entry(number)["name"]}"\ndaily_quota = 10000\n'
        for number in range(count)
    )
    return "[providers.alpha]\n" + "".join(entries)


def api_key(number: int) -> bytes:
    return f"sms_key-of-client-{number:012d}".encode()


def digest(number: int) -> str:
    return "sha256:" + hashlib.sha256(api_key(number)).hexdigest()


def entry(number: int) -> dict[str, object]:
    return {"name": f"c{number:07d}", "daily_quota": 10000}
