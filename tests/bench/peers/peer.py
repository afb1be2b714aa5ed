"""What another gateway has to offer so that it is measured beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.bench.wrk import Load
from tests.support.servers import ServerMissing

INSTALL = "run `sh tests/bench/install-peers.sh`"

SENDER = "1234"
NAME = "tester"
PASSWORD = "bench"


class PeerMissing(ServerMissing):
    """A peer is not installed, or cannot be started here. The message says what to do."""


@dataclass(frozen=True)
class Promise:
    """What an answer of acceptance stands for, in a few words each."""

    durable: str
    confirmed: str
    idempotent: str
    quota: str


class Peer(Protocol):
    """A running gateway of somebody else's."""

    @property
    def url(self) -> str:
        """Where its HTTP interface is reached."""

    @property
    def load(self) -> Load:
        """A send of the same text to the same number as ours."""

    @property
    def accepted_status(self) -> int:
        """The status of the answer that says it has accepted a message."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes that are the gateway, whose CPU time counts."""

    @property
    def servers(self) -> Sequence[int]:
        """Its Redis and its RabbitMQ, where it has any."""

    def take(self, expected: int) -> int:
        """How many messages have come through since the last call, by what it keeps its books in.

        Waits for so many for some seconds, since what was in flight may come a little later.
        """
