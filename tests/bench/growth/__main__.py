"""How the cost grows: ``python -m tests.bench.growth [--only NAME] [--json FILE]``.

Measures what a start, a send and a stored message cost as there are more clients, more providers, longer texts, more
records in Redis and more messages that wait. `--only outage` tells how soon a spool is empty again after one, and takes
minutes: it is measured only when it is asked for. Starts servers of its own and ends them. Needs Linux: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.growth import backlog, clients, embedded, outage, providers, records, sends, texts
from tests.bench.growth.report import Table, circumstances, line, say
from tests.bench.processes import IS_LINUX, LINUX_ONLY


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, tell, and return 0."""
    given = parser().parse_args(arguments)
    if not IS_LINUX:
        say(f"error: {LINUX_ONLY}")
        return 2
    parts: dict[str, Callable[[], list[Table]]] = {
        "clients": lambda: clients.measure(given.clients),
        "providers": lambda: providers.measure(given.providers),
        "texts": lambda: texts.measure(given.texts, given.seconds),
        "records": lambda: records.measure(given.records),
        "sends": lambda: sends.measure(given.connections, given.seconds),
        "backlog": lambda: backlog.measure(given.backlog, given.seconds),
        "embedded": lambda: embedded.measure(given.backlog, given.seconds),
        "outage": lambda: outage.measure(given.seconds),
    }
    tables: list[Table] = []
    started = time.monotonic()
    for name in given.only or [name for name in parts if name != "outage"]:
        say(f"{name}, {time.monotonic() - started:.0f} s from the start")
        tables += parts[name]()
    about = circumstances()
    say("\n" + line(list(about)) + "\n" + line(["---"] * len(about)) + "\n" + line(list(about.values())))
    for table in tables:
        say("\n" + table.markdown())
    if given.json:
        found = {**about, "tables": [table.as_json() for table in tables]}
        given.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options, with the sizes of a whole run as their defaults."""
    found = argparse.ArgumentParser(
        prog="python -m tests.bench.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("clients", "providers", "texts", "records", "sends", "backlog", "embedded", "outage")
    found.add_argument("--only", action="append", choices=names, help="this part; may be repeated")
    found.add_argument("--clients", type=numbers, default="1,1000,100000", metavar="N,N")
    found.add_argument("--providers", type=numbers, default="2,100,10000", metavar="N,N")
    found.add_argument("--texts", type=numbers, default=f"1,160,{texts.LONGEST}", metavar="N,N")
    found.add_argument("--records", type=number, default="100000", metavar="N", help="of each kind in Redis")
    found.add_argument("--connections", type=numbers, default="1,16,64,256", metavar="N,N")
    found.add_argument("--backlog", type=number, default="1000000", metavar="N", help="messages that wait")
    found.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of load for each figure")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return found


def number(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def numbers(text: str) -> list[int]:
    """Some of them, separated by commas."""
    return [number(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
