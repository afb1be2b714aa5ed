"""A store and an outbox that fail as they are told to, and show which steps were taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from pipeline.answer import Answer
from pipeline.envelope import Envelope
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, InProgress, OtherPayload, QuotaExceeded, Replay

Found = Begun | Replay | InProgress | OtherPayload


class ScriptedStore:
    """Gives or raises what each step was told to; by default everything succeeds. ``calls`` holds the steps taken."""

    def __init__(
        self,
        *,
        begin: Found | BaseException | None = None,
        arm: BaseException | None = None,
        complete: BaseException | None = None,
        release: BaseException | None = None,
        suspend: BaseException | None = None,
        take: QuotaExceeded | BaseException | None = None,
        give_back: BaseException | None = None,
        used: int = 1,
    ) -> None:
        self._begin = begin or Begun()
        self._take = take
        self._used = used
        self._steps = {
            "arm": arm,
            "complete": complete,
            "release": release,
            "suspend": suspend,
            "give_back": give_back,
        }
        self.calls: list[tuple[object, ...]] = []

    async def begin(self, claim: Claim) -> Found:
        self.calls.append(("begin", claim))
        if isinstance(self._begin, BaseException):
            raise self._begin
        return self._begin

    async def arm(self, claim: Claim) -> None:
        self._step("arm", claim)
        claim.armed = True

    async def complete(self, claim: Claim, answer: Answer) -> None:
        self._step("complete", claim, answer)

    async def release(self, claim: Claim) -> None:
        self._step("release", claim)

    async def suspend(self, claim: Claim) -> None:
        self._step("suspend", claim)

    async def take(
        self, client: Client, day: date, token: str, claim: Claim | None
    ) -> Reservation | QuotaExceeded:
        assert claim is None or token == claim.token, "what is taken under a claim is the claim's"
        self.calls.append(("take", client.name, day, token, claim))
        if isinstance(self._take, BaseException):
            raise self._take
        return self._take or Reservation(client.name, day, client.daily_quota, self._used, token)

    async def give_back(self, reservation: Reservation) -> None:
        self._step("give_back", reservation)

    @property
    def steps(self) -> list[object]:
        """The names of the steps taken."""
        return [call[0] for call in self.calls]

    def _step(self, name: str, *arguments: object) -> None:
        assert isinstance(arguments[0], Claim | Reservation)
        self.calls.append((name, *arguments))
        outcome = self._steps[name]
        if outcome is not None:
            raise outcome


@dataclass
class ScriptedOutbox:
    """Raises what it is told to, or remembers what it was given."""

    outcome: BaseException | None = None
    envelopes: list[Envelope] = field(default_factory=list)

    async def publish(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        if self.outcome is not None:
            raise self.outcome
