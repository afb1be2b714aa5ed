"""What the pipeline needs from outside, in the field's words; ``gateway`` holds the adapters.

Every verb is one atomic step, so that races are settled where the data lies. A verb of a store raises
``StoreUnavailable`` when it could not be carried out in time: unless the exception knows better, it may then have
happened all the same, or happen later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.answer import Answer
from pipeline.facts import Claim, Client, Reservation

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.envelope import Envelope
    from pipeline.failures import NotAccepted


class StoreUnavailable(Exception):
    """The store did not carry out a step in time; ``may_be_done`` unless it certainly has not and will not."""

    def __init__(self, reason: str = "", *, may_be_done: bool = True) -> None:
        super().__init__(reason)
        self.may_be_done = may_be_done


class BrokerRefused(Exception):
    """The broker certainly does not have the message: not connected, blocked, refused or returned."""


class BrokerUnknown(Exception):
    """The broker may have the message: no confirm in time, or the connection was lost with the publish in flight."""


class ClaimLost(Exception):
    """The claim's token is not the record's: another request has resumed it, or the record is gone. Nothing changed."""


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""


class Clients(Protocol):
    """Who may send."""

    def authenticate(self, api_key: bytes) -> Client | None:
        """The active client with this key; None for an unknown key and for an inactive client alike."""

    def named(self, name: str) -> Client | None:
        """The active client of this name."""


# What ``Claims.begin`` found.


@dataclass(frozen=True, slots=True)
class Begun:
    """The claim is this request's; ``armed`` when it resumes one whose message may be on the queue."""

    armed: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """The key has its answer already, in the form in which ``Claims.complete`` was given it."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class InProgress:
    """Another request holds the claim for this many milliseconds more, unless it ends sooner."""

    milliseconds_left: int


@dataclass(frozen=True, slots=True)
class OtherPayload:
    """The key was used with another payload first. That one was accepted or refused, or has no answer yet."""

    first: Literal["accepted", "refused", "in_progress"]

    @classmethod
    def after(cls, answer: Answer | None) -> OtherPayload:
        """What is found where the first payload has this answer; None while it has none."""
        if answer is None:
            return cls("in_progress")
        return cls("accepted" if answer.status == 202 else "refused")


class Claims(Protocol):
    """One record for each client and Idempotency-Key.

    absent -> begin -> pending -> arm -> armed -> complete -> done. See docs/architecture.md for the whole machine.
    """

    async def begin(self, claim: Claim) -> Begun | Replay | InProgress | OtherPayload:
        """Take the claim if it is free, or if its lease is over; the lease is 15 s by the store's own clock."""

    async def arm(self, claim: Claim) -> None:
        """Note that the message may be published from now on. Raises ``ClaimLost``."""

    async def complete(self, claim: Claim, answer: Answer) -> None:
        """Keep the answer for replay and drop the rest; with a refusal, give back what was taken under the claim.

        Refusals cost a client nothing, so a store keeps so many bytes of them for each, and then forgets the claim.
        Raises ``ClaimLost``.
        """

    async def release(self, claim: Claim) -> None:
        """Forget a claim under which nothing was published, and give back what was taken under it.

        Raises ``ClaimLost``.
        """

    async def suspend(self, claim: Claim) -> None:
        """End the lease of a claim whose outcome is unknown: the next request resumes it at once.

        Raises ``ClaimLost``.
        """


@dataclass(frozen=True, slots=True)
class QuotaExceeded:
    """Nothing was taken: ``used`` messages of the day's limit are spent."""

    used: int


class Quotas(Protocol):
    """Messages counted by client and UTC day."""

    async def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Reservation | QuotaExceeded:
        """Take one message from the day's quota, in one step with arming ``claim`` where there is one.

        A claim that was charged already is neither checked nor charged again. A ``token`` that was given back before
        takes nothing. Raises ``ClaimLost``.
        """

    async def give_back(self, reservation: Reservation) -> None:
        """Give a message taken without a claim back to the day it was taken from; at most once for a token.

        What was taken under a claim goes back when ``Claims`` releases it, or completes it with a refusal.
        """


Outcome = Literal["confirmed", "refused", "unknown"]
"""What is known of a publish."""


class Outbox(Protocol):
    """Where accepted messages are stored for the delivery side."""

    async def publish(self, envelope: Envelope) -> None:
        """Return when the message is stored durably and routed.

        Raises ``BrokerRefused`` or ``BrokerUnknown``. Publishing one tracking_id again is safe: the delivery side
        drops what it has seen.
        """


@dataclass(frozen=True, slots=True)
class Exposure:
    """Who reaches the gateway: this machine only, or others too."""

    is_loopback: bool


@dataclass(frozen=True, slots=True)
class GateSwitch:
    """Whether the provider gate looks at the state of providers; names are resolved in any case."""

    is_on: bool


@dataclass(frozen=True, slots=True)
class Downstream:
    """What the stages behind this one provide; each stage that asks for it is given its own."""

    facts: frozenset[type] = frozenset()


class Telemetry(Protocol):
    """What the pipeline tells about itself."""

    def stopwatch(self, stage: str) -> Callable[[float], None]:
        """Takes the seconds of its own that this stage spent on each request. Asked for once."""

    def published(self, outcome: Outcome, seconds: float) -> None:
        """The outbox has answered, after so long."""

    def replayed(self) -> None:
        """A stored answer was sent again."""

    def store_failed(self, context: Context, stage: str, operation: str, error: Exception) -> None:
        """A step on the store failed: the request goes on without it, or the step is tried again behind it."""

    def overloaded(self, tracking_id: str, refusal: NotAccepted, seconds: float) -> None:
        """A send was refused on arrival, since too many are in flight; it took so long."""

    def answered(self, context: Context, status: int, failure: NotAccepted | None) -> None:
        """The request is over; ``failure`` holds the cause where it was not accepted."""
