"""What a sender knows in the end: every message, every attempt at it, and what each answer said."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

OF_A_PROVIDER = ("PROVIDER_DISABLED", "ALL_PROVIDERS_DISABLED")
RETRYABLE = ("SERVICE_UNAVAILABLE", "NO_PROVIDER_AVAILABLE", "REQUEST_TIMEOUT")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body parsed; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str:
        """The error code, or ``ACCEPTED``."""
        if self.status == 202:
            return "ACCEPTED"
        document = self.json
        return str(document.get("error_code")) if isinstance(document, dict) else "no error body"

    @property
    def tracking_id(self) -> str:
        return self.headers.get("x-tracking-id", "")

    @property
    def is_replay(self) -> bool:
        return "idempotent-replayed" in self.headers

    @property
    def retry_after_seconds(self) -> float:
        return float(self.headers.get("retry-after", "0"))


class End(enum.Enum):
    """How an attempt ended for its sender."""

    ANSWERED = enum.auto()
    UNSENT = enum.auto()
    """The connection was refused: nothing has left."""
    CUT_SHORT = enum.auto()
    """The sender hung up before the request was whole."""
    LOST = enum.auto()
    """The request was sent, and the connection ended without an answer."""
    TIMED_OUT = enum.auto()
    """The sender's patience ended first."""
    ABANDONED = enum.auto()
    """The sender hung up on purpose after the request was whole."""


@dataclass(slots=True)
class Attempt:
    """One request. Times are monotonic seconds."""

    gateway: int
    began: float
    ended: float
    end: End
    answer: Answer | None = None
    is_reworded: bool = False
    """Whether its body was equal to the first attempt's, and not byte for byte the same."""

    @property
    def code(self) -> str | None:
        return None if self.answer is None else self.answer.code

    @property
    def is_accepted(self) -> bool:
        return self.code == "ACCEPTED"

    @property
    def may_have_published(self) -> bool:
        """Whether this very attempt may have put the message on the queue, as far as its sender can know."""
        if self.answer is None:
            return self.end in (End.LOST, End.TIMED_OUT, End.ABANDONED)
        return not self.answer.is_replay and self.code in ("ACCEPTED", "OUTCOME_UNKNOWN")

    def overlaps(self, began: float, ended: float) -> bool:
        """Whether it was under way at some moment between these times."""
        return self.began <= ended and began <= self.ended

    @property
    def is_refused(self) -> bool:
        """Whether it was answered, and the answer promises that this attempt has published nothing."""
        return self.answer is not None and self.code not in ("ACCEPTED", "OUTCOME_UNKNOWN")


@dataclass(slots=True)
class Message:
    """One numbered message.

    ``expected`` is the code of the refusal that it is bound to get; None for a valid one. A sender who ``gives_up``
    believes a refusal of the moment and does not ask again, whatever they were told before.
    """

    number: int
    client: str
    api_key: str
    key: str | None
    body: bytes
    expected: str | None = None
    gives_up: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    def __str__(self) -> str:
        told = [f"{attempt.code or attempt.end.name}@{attempt.gateway}" for attempt in self.attempts]
        story = " ".join(told[:12]) + (" …" if len(told) > 12 else "")
        return f"message {self.number} of {self.client}{' (keyed)' if self.key else ''} [{story}]"

    @property
    def is_accepted(self) -> bool:
        return any(attempt.is_accepted for attempt in self.attempts)

    @property
    def is_settled(self) -> bool:
        """Whether its sender would let it rest: the answer is final, or asking again might send it twice."""
        if self.is_accepted:
            return True
        if not self.attempts:
            return False
        last = self.attempts[-1]
        if last.answer is None:
            return self.key is None and last.end not in (End.UNSENT, End.CUT_SHORT)
        if last.code == "OUTCOME_UNKNOWN":
            return self.key is None
        if last.code in RETRYABLE:
            return self.gives_up
        if last.code in OF_A_PROVIDER and self.expected is None:
            # A provider that is out comes back.
            return self.gives_up or last.answer.is_replay
        return last.code != "IDEMPOTENCY_IN_PROGRESS"


class Kind(enum.Enum):
    """What happened, where it matters for what may be expected."""

    DIED = enum.auto()
    """A gateway did not run, or did not run on, between these two times; what it had in hand got no answer."""
    STOPPED = enum.auto()
    """A gateway was told to end, ended, and was started again."""
    BROKER = enum.auto()
    """The broker, or the way to it, was broken."""
    STORE = enum.auto()
    """The store, or the way to it, was broken, or gateways had yet to notice that it is mended."""
    FLUSHED = enum.auto()
    """The store forgot everything at some moment between these two times."""
    ROLLED_BACK = enum.auto()
    """The store forgot what it was told between some moment in this time and its end, or nothing."""
    CLOCK = enum.auto()
    """The gateways' wall clock went forward or back at some moment between these two times."""
    SWITCHED_OFF = enum.auto()
    """A provider that is switched on otherwise was off in a gateway."""
    LOWERED = enum.auto()
    """A client's quota was lower in a gateway than it is otherwise."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened between two times (monotonic seconds), to one gateway or to all of them."""

    kind: Kind
    began: float
    ended: float
    gateway: int | None = None

    def met(self, attempt: Attempt, after_seconds: float = 0.0) -> bool:
        """Whether the attempt, which may go on for so long after its sender has gone, was under way at its gateway."""
        is_there = self.gateway is None or self.gateway == attempt.gateway
        return is_there and self.overlaps(attempt.began, attempt.ended + after_seconds)

    def overlaps(self, began: float, ended: float) -> bool:
        return self.began <= ended and began <= self.ended
