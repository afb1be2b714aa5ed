"""Two gateway processes over one real store and one broker, stepped call by call, and all that may be said of them.

Nothing runs by itself: a request goes on until it calls the store or the broker, and waits there (``gates``). The
driver is one event loop that is run until every task has ended or waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.types import ASGIApp

import schemas
from gateway.dependency import Store
from gateway.retries import RetryingStore
from pipeline import wiring
from pipeline.answer import Answer, accepted
from pipeline.boundary import Boundary
from pipeline.envelope import ConfigFingerprint, Envelope
from pipeline.facts import Client
from pipeline.ports import (
    Begun,
    BrokerRefused,
    BrokerUnknown,
    ClaimLost,
    Exposure,
    GateSwitch,
    StoreUnavailable,
)
from pipeline.publish import Publish
from pipeline.store_policy import REJECT, StorePolicy
from pipeline.timing.deadline import Deadlines
from tests.properties.cast import (
    DOCUMENTS,
    KEYS,
    LIMITS,
    ORDERS,
    Attempt,
    Process,
    Senders,
    Switchboard,
    expected_id,
)
from tests.properties.gates import Call, Gate, GatedOutbox, GatedStore, Happens, Killed
from tests.properties.records import ENDED, Holdings, Records
from tests.support.asgi import JSON, Ears, Exchange, StandingClock

STEPS = ("begin", "take", "arm", "publish", "complete", "give_back", "suspend", "release")
"""The calls of a request, in an order in which they may come."""

_SCHEMA = schemas.load("request")
_FINGERPRINT = ConfigFingerprint("a" * 64, "b" * 64)
_MOST_AT_ONCE = 5
_REST_AFTER = 8
_MOST_TURNS = 10_000
_names = iter(range(10**9))


class Scene:
    """What happens in one example, and what must be true of it.

    ``forgets`` says that the store may lose its data, of which then less can be asked.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stores: Sequence[Store],
        records: Records,
        order: str = "default",
        on_quota_error: str = REJECT,
        *,
        forgets: bool = False,
    ) -> None:
        self.loop = loop
        self.stores = stores
        self.records = records
        self.order = ORDERS[order]
        self.on_quota_error = on_quota_error
        self.forgets = forgets
        self.charges_exactly = "quota" in self.order and on_quota_error == REJECT and not forgets
        example = next(_names)
        self.clients = {
            name: Client(f"{name} {example}".replace(" ", "-"), daily_quota=limit)
            for name, limit in LIMITS.items()
        }
        today = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
        self.clock = StandingClock(today)
        self.days = [(today + timedelta(days=ahead)).date() for ahead in range(3)]
        self.providers = Switchboard()
        self.gate = Gate()
        self.late: list[Call] = []
        self.attempts: list[Attempt] = []
        self.rested_after = 0
        self._held: dict[str, Holdings] = {}
        self.stored: list[Envelope] = []
        self.charges: defaultdict[str, Counter[date]] = defaultdict(Counter)
        self.first_answer: dict[str, Attempt | None] = {}
        self.replayed: dict[str, Answer] = {}
        self.taken_over: set[str] = set()
        self.owed_by_the_dead: set[str] = set()
        self._settlements: set[asyncio.Task[None]] = set()
        self.processes = [self._process(0), self._process(1)]

    def _process(self, number: int) -> Process:
        process = Process(number)
        process.store = RetryingStore(GatedStore(self.stores[number], self.gate, process))
        telemetry = Ears()
        services = wiring.Services(
            clients=Senders(list(self.clients.values())),
            claims=process.store,
            quotas=process.store,
            providers=self.providers,
            clock=self.clock,
            telemetry=telemetry,
            schema=_SCHEMA,
            exposure=Exposure(is_loopback=True),
            gate_switch=GateSwitch(is_on=True),
        )
        app: ASGIApp = Publish(
            outbox=GatedOutbox(self.stored, self.gate, process),
            claims=process.store,
            providers=self.providers,
            config_fingerprint=_FINGERPRINT,
            clock=self.clock,
            telemetry=telemetry,
            claim_policy=StorePolicy("publish", REJECT, telemetry),
        )
        options = {"quota": {"on_store_error": self.on_quota_error}} if "quota" in self.order else {}
        for _, stage in reversed(wiring.build(self.order, options, services)):
            app = stage.cls(app, *stage.args, **stage.kwargs)
        # A deadline passes where the test says so, and nowhere else.
        deadlines = Deadlines(body_seconds=86400, request_seconds=86400)
        process.app = Boundary(app, self.clock, telemetry, deadlines=deadlines)
        return process

    # What may happen.

    def send(self, client: Client, key: str | None, body: str, process: int, up_to: str = "begin") -> Attempt:
        """A request arrives, and goes on to its first call, or without trouble up to a later one or to its end."""
        document = DOCUMENTS[body]
        # The same payload in another writing is the same payload.
        raw = json.dumps(document, indent=len(self.attempts) % 3 or None).encode()
        headers = {**JSON, "api-key": client.name}
        if key is not None:
            headers["idempotency-key"] = key
        attempt = Attempt(
            len(self.attempts), self.processes[process], client, key, body, Exchange(raw, headers)
        )
        self.attempts.append(attempt)
        self.loop.run_until_complete(self._start(attempt))
        self.finish(attempt, up_to)
        return attempt

    async def _start(self, attempt: Attempt) -> None:
        attempt.task = asyncio.create_task(_serve(attempt))
        self.gate.callers[attempt.task] = attempt
        await self._rest()

    def reply(self, call: Call) -> None:
        """A call is carried out, and its caller hears of it."""
        self.loop.run_until_complete(self._reply(call))

    async def _reply(self, call: Call) -> None:
        self.gate.waiting.remove(call)
        attempt = call.caller
        if isinstance(attempt, Attempt):
            attempt.last_call = call.name
            if call.name == "publish":
                attempt.published = "confirmed"
        try:
            result = await self._carry_out(call)
        except ClaimLost as lost:
            call.reply.set_exception(lost)
        else:
            if isinstance(result, Begun) and isinstance(attempt, Attempt):
                attempt.resumed = result.armed
            call.reply.set_result(result)
        await self._rest()

    def refuse(self, call: Call) -> None:
        """The broker refuses a message."""
        assert isinstance(call.caller, Attempt)
        call.caller.published = "refused"
        self.gate.waiting.remove(call)
        call.reply.set_exception(BrokerRefused())
        self.loop.run_until_complete(self._rest())

    def fail(self, call: Call, happens: Happens) -> None:
        """The caller is told that nobody knows."""
        self.loop.run_until_complete(self._fail(call, happens))

    async def _fail(self, call: Call, happens: Happens) -> None:
        await self._leave(call, happens)
        if call.name == "publish":
            call.reply.set_exception(BrokerUnknown())
        else:
            call.reply.set_exception(StoreUnavailable(may_be_done=happens is not Happens.SURELY_NEVER))
        await self._rest()

    def expire(self, call: Call, happens: Happens) -> None:
        """The request's deadline passes while the call is under way."""
        self.loop.run_until_complete(self._expire(call, happens))

    async def _expire(self, call: Call, happens: Happens) -> None:
        assert isinstance(call.caller, Attempt)
        await self._leave(call, happens)
        call.caller.context.deadline.expire()
        await self._rest()

    def kill(self, number: int, happens: Happens) -> None:
        """A process is killed, and another one takes its place."""
        self.loop.run_until_complete(self._kill(self.processes[number], happens))
        self.processes[number] = self._process(number)

    async def _kill(self, process: Process, happens: Happens) -> None:
        waiting = [call for call in self.gate.waiting if self._process_of(call) is process]
        for call in waiting:
            await self._leave(call, happens)
        process.is_dead = True
        self.owed_by_the_dead |= process.owes
        for call in waiting:
            call.reply.set_exception(Killed())
        await self._rest()

    def arrive(self, call: Call) -> None:
        """A call of which nobody has heard for long is carried out."""
        self.late.remove(call)
        self.loop.run_until_complete(self._unheard(call))

    def end_lease(self, client: Client, key: str, until: int = ENDED) -> None:
        """A request has been under way for longer than its lease, or the clock was set back meanwhile."""
        self.records.end_lease(client.name, key, until)
        self._held.pop(client.name, None)

    def forget(self) -> None:
        """The store loses all its data."""
        for client in self.clients.values():
            self.records.forget(client.name)
        self._held.clear()
        self.charges.clear()
        self.first_answer.clear()
        self.replayed.clear()

    def lose_store(self, number: int, happens: Happens) -> None:
        """No call of a process to the store succeeds until its requests are answered, or wait for the broker."""
        process = self.processes[number]
        while calls := [
            call
            for call in self.gate.waiting
            if isinstance(call.caller, Attempt) and call.caller.process is process and call.name != "publish"
        ]:
            self.fail(calls[0], happens)

    def midnight(self) -> None:
        """A day begins, of the few that a store may be asked about."""
        if self.clock.time.date() < self.days[-1]:
            self.clock.time += timedelta(days=1)

    def switch_alpha(self) -> None:
        """A provider begins to be out of order, or ceases to be."""
        self.providers.switch(is_on=not self.providers.is_on)

    async def _leave(self, call: Call, happens: Happens) -> None:
        """Let the call have no reply."""
        self.gate.waiting.remove(call)
        attempt = call.caller
        if isinstance(attempt, Attempt):
            attempt.was_failed = True
            attempt.last_call = call.name
            if call.name == "publish":
                attempt.published = "unknown"
        process = self._process_of(call)
        if call.undoes:
            process.owes.add(call.tracking_id)
        if call.name == "take":
            assert isinstance(attempt, Attempt)
            attempt.may_have_taken = happens in {Happens.NOW, Happens.LATER}
        if happens is Happens.NOW:
            await self._unheard(call)
        elif happens is Happens.LATER:
            self.late.append(call)

    async def _unheard(self, call: Call) -> None:
        with contextlib.suppress(ClaimLost):
            result = await self._carry_out(call)
            if isinstance(result, Begun) and result.armed:
                self.taken_over.add(call.tracking_id)

    async def _carry_out(self, call: Call) -> Any:
        if call.name == "publish":
            return await call.act()
        before = self._holdings(call.client)
        result: Any
        try:
            result = await call.act()
        except ClaimLost as lost:
            result = lost
        self._held.pop(call.client, None)
        self._check_step(call, result, before, self._holdings(call.client))
        if call.undoes:
            self._process_of(call).owes.discard(call.tracking_id)
        if call.name == "take" and isinstance(call.caller, Attempt):
            call.caller.may_have_taken = True
        if isinstance(result, ClaimLost):
            raise result
        return result

    async def _rest(self) -> None:
        """Let everything run until each task has ended or waits."""
        for _ in range(_MOST_TURNS):
            waiting = {call.task for call in self.gate.waiting}
            self._settlements |= {
                process.store._retrying for process in self.processes if process.store._retrying is not None
            }
            running = {attempt.task for attempt in self.attempts if not attempt.is_judged} | self._settlements
            for task in list(running):
                if task.done():
                    error = task.exception()
                    assert error is None or isinstance(error, Killed), f"raised out of the gateway: {error!r}"
            self._settlements = {task for task in self._settlements if not task.done()}
            if all(task.done() or task in waiting for task in running):
                for attempt in self.attempts:
                    if attempt.task.done() and not attempt.is_judged:
                        attempt.is_judged = True
                        del self.gate.callers[attempt.task]
                        if not attempt.is_dead:
                            self._check_answer(attempt)
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to rest")

    # What can be done next.

    def calls(self) -> list[Call]:
        """Those that wait."""
        return list(self.gate.waiting)

    def publishes(self) -> list[Call]:
        """The messages that wait for the broker."""
        return [call for call in self.gate.waiting if call.name == "publish"]

    def mortal(self) -> list[Call]:
        """Calls of requests whose deadline still counts."""
        return [
            call
            for call in self.gate.waiting
            if isinstance(call.caller, Attempt) and not call.caller.context.deadline.is_over
        ]

    def has_room(self) -> bool:
        """Whether another request is not too many."""
        return len(self.unanswered()) < _MOST_AT_ONCE

    def is_busy(self) -> bool:
        """Whether there is something to rest from."""
        return len(self.attempts) - self.rested_after >= _REST_AFTER

    def leases(self) -> list[tuple[Client, str]]:
        """The claims that are held."""
        return [
            (client, key)
            for client in self.clients.values()
            for key, record in self._holdings(client.name).claims.items()
            if record.is_leased
        ]

    def keyed(self) -> list[Attempt]:
        """The requests that can be retried."""
        return [attempt for attempt in self.attempts if attempt.key is not None]

    def unanswered(self) -> list[Attempt]:
        """The requests that are under way."""
        return [attempt for attempt in self.attempts if not attempt.task.done()]

    def finish(self, attempt: Attempt, up_to: str = "the end") -> None:
        """Let a request go on without trouble, to a call of this name or later, or to its end."""
        while not attempt.task.done():
            call = next(call for call in self.gate.waiting if call.caller is attempt)
            if up_to != "the end" and STEPS.index(call.name) >= STEPS.index(up_to):
                break
            self.reply(call)

    # What must be true.

    def _check_step(self, call: Call, result: Any, before: Holdings, after: Holdings) -> None:
        """Of one step on the store."""
        for day in self.days:
            self.charges[call.tracking_id][day] += after.used.get(day, 0) - before.used.get(day, 0)
        charges = self.charges[call.tracking_id]
        assert sorted(charges.values())[:-1] == [0, 0], f"{call} charged two days: {charges}"
        assert charges.total() in {0, 1}, f"{call} left it charged {charges.total()} times"
        if call.claim is None:
            assert before.claims == after.claims
            return
        key, record = call.claim.key, before.claims.get(call.claim.key)
        others = {name: other for name, other in before.claims.items() if name != key}
        assert others == {name: other for name, other in after.claims.items() if name != key}
        if call.name != "begin":
            if record is None or record.token != call.claim.token:
                assert before == after, f"{call} came late and changed something"
                assert isinstance(result, ClaimLost), f"{call} came late and did not say so"
            if call.name == "complete" and not isinstance(result, ClaimLost):
                first = call.caller if isinstance(call.caller, Attempt) else None
                assert self.first_answer.setdefault(call.tracking_id, first) is first
        elif isinstance(result, Begun):
            assert record is None or (
                record.fingerprint == call.claim.fingerprint
                and record.answer is None
                and record.is_armed == result.armed
                and not record.is_leased
            ), f"{call} took a claim that was not free"
            assert before.used == after.used
        else:
            assert before == after, f"{call} took nothing and changed something"

    def _check_answer(self, attempt: Attempt) -> None:
        """Of one answer, when it leaves."""
        assert attempt.exchange.sent, f"{attempt} got no answer"
        outcome = attempt.outcome
        if attempt.key is not None:
            assert attempt.exchange.headers["x-tracking-id"] == expected_id(attempt)
        if attempt.is_replay:
            assert not attempt.published
            self._check_replay(attempt)
        elif outcome == "ACCEPTED":
            assert attempt.published == "confirmed", f"{attempt} was accepted and not stored"
            assert attempt.answer == accepted(attempt.tracking_id)
        elif outcome == "OUTCOME_UNKNOWN":
            assert attempt.published == "unknown" or attempt.resumed, f"{attempt} is known to be refused"
        else:
            assert not attempt.may_be_stored(), f"{attempt} was answered {outcome} and may be stored"
            assert not attempt.resumed, f"{attempt} was answered {outcome}, and an earlier one may be stored"
            self._check_refusal(attempt, outcome)

        if attempt.key is not None and not attempt.is_replay and outcome == "ACCEPTED":
            assert attempt.last_call == "complete", f"{attempt} has not stored its answer"

    def _check_refusal(self, attempt: Attempt, outcome: str) -> None:
        match outcome:
            case "SERVICE_UNAVAILABLE":
                assert attempt.was_failed or attempt.published == "refused", f"{attempt} failed for no reason"
            case "TOO_MANY_REQUESTS":
                assert attempt.client.daily_quota is not None
                assert "quota" in self.order
            case "PROVIDER_DISABLED":
                assert attempt.body == "hello by alpha"
                assert "provider_gate" in self.order
            case "IDEMPOTENCY_IN_PROGRESS" | "IDEMPOTENCY_KEY_REUSED":
                assert attempt.key is not None
            case _:
                raise AssertionError(f"{attempt} was answered {outcome}")

    def _check_replay(self, attempt: Attempt) -> None:
        """Every replay is the same, and the same as the answer that was stored, if that ever left."""
        tracking_id = attempt.tracking_id
        assert attempt.answer == self.replayed.setdefault(tracking_id, attempt.answer)
        first = self.first_answer[tracking_id]
        # The deadline may cut off whoever stores a refusal: they say that nothing was sent, which is as true.
        if first is not None and first.is_answered and first.outcome != "SERVICE_UNAVAILABLE":
            assert attempt.answer == first.answer, f"{attempt} got another answer than {first}"
        if attempt.outcome == "ACCEPTED":
            assert tracking_id in self.stored_ids(), f"{attempt} is told that it was stored"

    def stored_ids(self) -> dict[str, None]:
        """The tracking_ids in the outbox, in order: what fails first must be the same when it is tried again."""
        return dict.fromkeys(envelope.tracking_id for envelope in self.stored)

    def check(self) -> None:
        """At any time."""
        stored = self.stored_ids()
        messages: dict[str, Attempt] = {}
        for attempt in self.attempts:
            if attempt.key is None:
                messages[attempt.tracking_id] = attempt
            else:
                messages[expected_id(attempt)] = attempt
            if attempt.is_judged and not attempt.is_dead:
                self._check_afterwards(attempt, stored)
        assert stored.keys() <= messages.keys(), "a message has an id that is not its own"
        if self.forgets:
            return
        held = {client.name: self._holdings(client.name) for client in self.clients.values()}
        for client in self.clients.values():
            # What was served without the quota is counted later, whatever the limit.
            if client.daily_quota is not None and self.charges_exactly:
                assert all(used <= client.daily_quota for used in held[client.name].used.values())
        bodies: dict[tuple[str, str], str] = {}
        for tracking_id in stored:
            attempt = messages[tracking_id]
            if self.charges_exactly:
                assert self.charges[tracking_id].total() == 1, f"{attempt} is stored and not charged"
            if attempt.key is not None:
                body = bodies.setdefault((attempt.client.name, attempt.key), attempt.body)
                assert body == attempt.body, "two payloads under one key"
                record = held[attempt.client.name].claims.get(attempt.key)
                assert record is not None, f"{attempt} is stored, and its key forgotten"
                assert record.is_armed or record.answer == accepted(tracking_id).pack(tracking_id)

    def _check_afterwards(self, attempt: Attempt, stored: Container[str]) -> None:
        if attempt.outcome == "ACCEPTED":
            assert attempt.tracking_id in stored
        if attempt.outcome == "OUTCOME_UNKNOWN" and self.charges_exactly:
            assert self.charges[attempt.tracking_id].total() == 1, f"{attempt} is unknown and not charged"

    def come_to_rest(self) -> None:
        """Let all that is under way come to its end, check what then must be true, retry it all, and check again."""
        while self.gate.waiting:
            self.reply(self.gate.waiting[0])
        while self.late:
            self.arrive(self.late[0])
        for client, key in self.leases():
            self.end_lease(client, key)
        self.check()
        stored = self.stored_ids()
        for tracking_id, charges in self.charges.items():
            if charges.total() and tracking_id not in stored:
                assert self._may_be_charged(tracking_id), f"{tracking_id} was refused and is charged"
        self._retry_all()
        self.check()
        stored = self.stored_ids()
        for attempt in self.keyed():
            if self.charges[attempt.tracking_id].total():
                assert attempt.tracking_id in stored, f"{attempt} is charged and not stored"
        self._check_counters()
        self.rested_after = len(self.attempts)

    def _retry_all(self) -> None:
        """Everything that has a key, once and without trouble: now each has its final answer."""
        for attempt in _distinct(self.keyed()):
            again = self.send(attempt.client, attempt.key, attempt.body, 0, "the end")
            outcomes = {"ACCEPTED", "PROVIDER_DISABLED", "TOO_MANY_REQUESTS", "IDEMPOTENCY_KEY_REUSED"}
            assert again.outcome in outcomes, f"{again} was answered {again.outcome} in the end"
            if again.tracking_id in self.stored_ids() and not self.forgets:
                assert again.outcome == "ACCEPTED"

    def _may_be_charged(self, tracking_id: str) -> bool:
        """Whether a message that is not stored may be charged when all has come to rest.

        It is when somebody was told that its outcome is unknown, or was told nothing. Besides, there are two ways in
        which a refusal can cost something until it is retried: its process is killed while it owes the store what it
        took; or it owes that for longer than the lease, and the next request takes the claim over without hearing of
        it.
        """
        attempts = [attempt for attempt in self.attempts if attempt.tracking_id == tracking_id]
        if self.forgets and attempts[0].key is None:
            # A take that arrives after its give-back was forgotten.
            return True
        if tracking_id in self.owed_by_the_dead | self.taken_over:
            return True
        return any(
            attempt.outcome == "OUTCOME_UNKNOWN"
            if attempt.is_answered
            else attempt.may_have_taken or attempt.resumed
            for attempt in attempts
        )

    def _check_counters(self) -> None:
        """The counters are the sum of the charges: nothing else has changed them."""
        for client in self.clients.values():
            counted: Counter[date] = Counter()
            own = {attempt.tracking_id for attempt in self.attempts if attempt.client is client}
            for tracking_id in own:
                counted += self.charges[tracking_id]
            assert dict(counted) == self._holdings(client.name).used

    def close(self) -> None:
        """End what is still under way, unchecked."""
        self.loop.run_until_complete(self._close())

    async def _close(self) -> None:
        for process in self.processes:
            process.is_dead = True
        # Not by way of the gate: where a check has failed, the call that it was about waits there no more.
        tasks = [*(attempt.task for attempt in self.attempts if not attempt.task.done()), *self._settlements]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _holdings(self, client: str) -> Holdings:
        """What the store holds of a client, read again only when something may have changed it."""
        if client not in self._held:
            self._held[client] = self.records.of(client, KEYS, self.days)
        return self._held[client]

    def _process_of(self, call: Call) -> Process:
        if isinstance(call.caller, Attempt):
            return call.caller.process
        assert isinstance(call.caller, Process)
        return call.caller


async def _serve(attempt: Attempt) -> None:
    await attempt.exchange.arriving_at(attempt.process.app)


def _distinct(attempts: Sequence[Attempt]) -> Iterator[Attempt]:
    seen = set()
    for attempt in attempts:
        message = attempt.client.name, attempt.key, attempt.body
        if message not in seen:
            seen.add(message)
            yield attempt
