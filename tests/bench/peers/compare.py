"""Ours and the other gateways in turn, each slice after one of bare uvicorn: one row for each."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.bench.bare import Bare
from tests.bench.cases import FRESH_KEY, NO_KEY, Case
from tests.bench.contenders import Contender, running
from tests.bench.measure import Figures, bare_slice, count, gateway_slice, median, under_load
from tests.bench.peers import jasmin, kannel
from tests.bench.peers.kannel import Kannel
from tests.bench.peers.peer import Peer, Promise
from tests.bench.wrk import WrongAnswers
from tests.support.servers import RabbitServer, RedisServer, ServerMissing

OURS = "ours, a full send"
OURS_WITHOUT_KEY = "ours, without a key"
KANNEL_IN_MEMORY = "Kannel, in memory"
KANNEL_ON_FILE = "Kannel, store in a file"

Slice = Callable[[int, int], tuple[Figures, int, int]]
"""Connections and seconds → figures, how many were accepted, and how many messages that made."""


@dataclass(frozen=True)
class Kind:
    """A gateway that is compared: how it is started, and what its acceptance stands for."""

    name: str
    promise: Promise
    serving: Callable[[], contextlib.AbstractContextManager[Peer]]


@dataclass(frozen=True)
class PeerRow:
    """A gateway at one number of connections, or why there are no figures of it. ``cpu_ratio`` is to bare uvicorn."""

    name: str
    promise: Promise
    connections: int
    bare: Figures | None = None
    figures: Figures | None = None
    cpu_ratio: float = 0.0
    accepted: int = 0
    stored: int = 0
    failure: str | None = None


@dataclass
class Entrant:
    """A gateway that takes part, and what has come of it so far."""

    name: str
    promise: Promise
    slice: Slice
    pairs: list[tuple[Figures, Figures]] = field(default_factory=list)
    accepted: int = 0
    stored: int = 0
    failure: str | None = None

    def row(self, connections: int) -> PeerRow:
        """The medians of its slices, or its failure."""
        if self.failure is not None:
            return PeerRow(self.name, self.promise, connections, failure=self.failure)
        return PeerRow(
            self.name,
            self.promise,
            connections,
            median([pair[0] for pair in self.pairs]),
            median([pair[1] for pair in self.pairs]),
            statistics.median(theirs.cpu_us / bare.cpu_us for bare, theirs in self.pairs),
            self.accepted,
            self.stored,
        )


_OURS = Promise(
    "on a quorum queue, on disk",
    "by RabbitMQ, before the answer",
    "yes: a retry of its key gets the first answer",
    "per client and day, in Redis",
)
_KANNELS = Promise(
    "no: in the memory of bearerbox", "by bearerbox to smsbox", "no: a retry sends again", "none"
)

KINDS = (
    Kind(KANNEL_IN_MEMORY, _KANNELS, lambda: Kannel(keeps_file=False)),
    Kind(
        KANNEL_ON_FILE,
        Promise("in a file, not synced to disk", _KANNELS.confirmed, _KANNELS.idempotent, _KANNELS.quota),
        lambda: Kannel(keeps_file=True),
    ),
    Kind(
        "Jasmin",
        Promise(
            "no: a transient message on a queue that is not durable",
            "no: written to the socket",
            "no: a retry sends again",
            "per user, in memory, written to disk every minute",
        ),
        jasmin.serving,
    ),
)


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {"kannel": kannel.version(), "jasmin": jasmin.version()}
    return {name: version for name, version in found.items() if version is not None}


def compare(
    reference: Bare,
    connections: Sequence[int],
    seconds: int,
    rounds: int,
    store: RedisServer,
    broker: RabbitServer,
    place: Callable[[int], None],
) -> Iterator[PeerRow]:
    """The rows of ours and of all ``KINDS``; ``place`` is told the id of each process that serves.

    All run for the whole of it: one that has no load takes no time that could be measured.
    """
    with contextlib.ExitStack() as stack:
        contender = stack.enter_context(running(FRESH_KEY.setup, store, broker))
        place(contender.pid)
        started = [(kind, *_start(kind, stack, place)) for kind in KINDS]
        for number in connections:
            contender.prepare(FRESH_KEY)
            entrants = [
                Entrant(OURS, _OURS, _ours(FRESH_KEY, contender)),
                Entrant(
                    OURS_WITHOUT_KEY,
                    Promise(_OURS.durable, _OURS.confirmed, "no: a retry sends again", _OURS.quota),
                    _ours(NO_KEY, contender),
                ),
                *(
                    Entrant(kind.name, kind.promise, _theirs(peer), failure=failure)
                    for kind, peer, failure in started
                ),
            ]
            alternate(reference, entrants, number, seconds, rounds)
            for entrant in entrants:
                yield entrant.row(number)


def alternate(
    reference: Bare, entrants: Sequence[Entrant], connections: int, seconds: int, rounds: int
) -> None:
    """Bare uvicorn, the first, bare uvicorn, the second, and so on; one that fails is left out from then on."""
    # The first second of each goes to what is done only once.
    for is_counted in (False, *[True] * rounds):
        for entrant in entrants:
            if entrant.failure is not None:
                continue
            length = seconds if is_counted else 1
            bare = bare_slice(reference, FRESH_KEY.load, connections, length)
            try:
                figures, accepted, stored = entrant.slice(connections, length)
            except (WrongAnswers, RuntimeError, OSError) as error:  # The last two of one that has died.
                entrant.failure = str(error)
                continue
            if is_counted:
                entrant.pairs.append((bare, figures))
                entrant.accepted += accepted
                entrant.stored += stored


def _start(
    kind: Kind, stack: contextlib.ExitStack, place: Callable[[int], None]
) -> tuple[Peer | None, str | None]:
    try:
        peer = stack.enter_context(kind.serving())
    except (ServerMissing, RuntimeError, ValueError, OSError) as error:
        return None, f"could not be run: {error}"
    for pid in peer.pids:
        place(pid)
    return peer, None


def _ours(case: Case, contender: Contender) -> Slice:
    return lambda connections, seconds: gateway_slice(case, contender, connections, seconds)


def _theirs(peer: Peer | None) -> Slice:
    def measured(connections: int, seconds: int) -> tuple[Figures, int, int]:
        assert peer is not None
        figures, answers = under_load(peer.pids, peer.url, peer.load, connections, seconds, peer.servers)
        answers.expect(peer.accepted_status)
        stored = peer.take(answers.requests)
        count(answers.requests, stored, connections)
        return figures, answers.requests, stored

    return measured
