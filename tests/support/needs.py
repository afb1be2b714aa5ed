"""Parameters that say which servers their tests need, so that `make check` can leave these out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def params(names: Iterable[str], *, servers: Collection[str], clusters: Collection[str] = ()) -> list[Any]:
    """The names as parameters of a fixture, those that need Redis, RabbitMQ or a cluster of them marked so."""

    def marks(name: str) -> list[pytest.MarkDecorator]:
        return [
            mark
            for mark, marked in ((pytest.mark.servers, servers), (pytest.mark.cluster, clusters))
            if name in marked
        ]

    return [pytest.param(name, marks=marks(name)) for name in names]


on_servers = pytest.mark.parametrize("own_backend", params(["servers"], servers={"servers"}), indirect=True)
"""For tests of gateways to which only real servers matter."""

on_embedded = pytest.mark.parametrize("own_backend", ["embedded"], indirect=True)
"""For tests of gateways to which it does not matter where they keep their state."""
