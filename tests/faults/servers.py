"""Redis and RabbitMQ, started once for many rounds, each behind a proxy."""

from __future__ import annotations

from typing import Self

from tests.faults.proxy import Proxy
from tests.support.gateways import Backend
from tests.support.servers import HOST, RabbitServer, RedisServer


class Servers:
    """The servers, and the legs to them that may be broken."""

    def __init__(self, store: RedisServer, broker: RabbitServer) -> None:
        self.store = store
        self.broker = broker
        self.store_leg = Proxy(store.port)
        self.broker_leg = Proxy(broker.port)

    def __enter__(self) -> Self:
        self.store_leg.__enter__()
        self.broker_leg.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.store_leg.__exit__()
        self.broker_leg.__exit__()

    def heal(self) -> None:
        """Have both servers run, and both legs pass everything on."""
        self.store_leg.heal()
        self.broker_leg.heal()
        self.store.start()
        self.broker.start()

    def backend(self) -> Backend:
        """URLs through the proxies, and names that nobody has used before."""
        return Backend(
            "faults",
            f"redis://{HOST}:{self.store_leg.port}/0",
            f"amqp://guest:guest@{HOST}:{self.broker_leg.port}/",
        )
