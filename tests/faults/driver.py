"""The senders: a steady load of numbered messages, each sent again as a careful sender would send it again."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.faults import stages
from tests.faults.ledger import OF_A_PROVIDER, RETRYABLE, Attempt, End, Message
from tests.faults.load import (
    API_KEYS,
    CLIENTS,
    IDEMPOTENCY_KEY,
    INVALID,
    KEY_TAIL,
    PATIENCE_SECONDS,
    SCARCE,
    TEXT,
    VALID,
    reworded,
)
from tests.faults.sender import Sender

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Crash:
    """What the next fitting request is to do to its gateway, and at which point."""

    point: str
    gateway: int
    header: str
    wanted: Callable[[Message], bool]

    def is_reached_by(self, message: Message, gateway: int) -> bool:
        """Whether a request for this message comes to this point in this gateway."""
        if gateway != self.gateway or message.expected is not None or message.client == SCARCE:
            return False
        has_point = message.key is not None or self.point not in (stages.BEGIN, stages.COMPLETE)
        return has_point and self.wanted(message)


_SETTLE_SECONDS = 90.0
_CALL_SECONDS = 120.0


class Driver:
    """Sends until it is stopped, from an event loop in a thread of its own.

    ``ports`` are the gateways', each as good as the other. Everything that it has sent stands in ``messages``, and in
    ``attempts`` in the order in which the attempts ended. A gateway in ``avoided`` gets nothing new;
    ``patience_seconds`` bounds each attempt at the gateway of this number.
    """

    def __init__(self, ports: Sequence[int], seed: int, concurrency: int, pause_seconds: float) -> None:
        self.senders = [Sender(gateway, port) for gateway, port in enumerate(ports)]
        self.concurrency = concurrency
        self.pause_seconds = pause_seconds
        self.messages: list[Message] = []
        self.avoided: set[int] = set()
        self.patience_seconds = [PATIENCE_SECONDS] * len(ports)
        self.attempts: list[Attempt] = []
        self.last_accepted = [0.0] * len(ports)
        self._random = random.Random(seed)
        self._run_id = f"{seed}-{self._random.randrange(16**8):08x}"
        self._crash: _Crash | None = None
        self.crashed: Message | None = None
        """The last message of which a request was to end or stop a gateway."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="driver", daemon=True)
        self._ending = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._retries: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []
        self._last_key = ("", "")
        self._in_flight = 0
        self._gate = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self._start())
        return self

    def __exit__(self, *exception: object) -> None:
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the driver's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    def hold(self) -> None:
        """Send nothing more for now; returns when every request under way has ended."""
        self.do(self._hold())

    def release(self) -> None:
        """Go on after ``hold``."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def crash(
        self,
        point: str,
        gateway: int,
        header: str = stages.CRASH,
        wanted: Callable[[Message], bool] = lambda message: True,
    ) -> None:
        """Have a next request to this gateway, of a message that is wanted, end or stop it at this point."""
        self._crash = _Crash(point, gateway, header, wanted)

    def crash_no_more(self) -> None:
        """Have no request end anything any more."""
        self._crash = None

    def finish(self) -> None:
        """Begin no new message, and settle those that there are; returns when all are, or time is up."""
        self.do(self._finish())

    # From here on everything runs on the loop.

    async def send_in_parallel(self, message: Message, times: int) -> None:
        """The same request so many times at once, over all gateways."""
        await asyncio.gather(*(self.attempt(message) for _ in range(times)))
        self.settle_later(message)

    def compose(
        self, *, keyed: bool | None = None, valid: bool = False, api_key: str | None = None
    ) -> Message:
        """A new message, noted; of any kind, where nothing is said of it."""
        choose = self._random
        number = len(self.messages)
        members: dict[str, Any] = {
            "to": f"+98912{number:07d}",
            "text": f"{TEXT} {number} {'.' * choose.randrange(100)}",
        }
        expected = None
        if not valid and choose.random() < 0.06:
            changed, expected = choose.choice(INVALID)
            members |= changed
        else:
            members |= choose.choice(VALID)
        if api_key is None:
            is_scarce = not valid and choose.random() < 0.05
            api_key = SCARCE + KEY_TAIL if is_scarce else choose.choice(API_KEYS)
        if keyed is None:
            keyed = choose.random() < 0.6
        key = self._key(CLIENTS[api_key]["name"], number) if keyed else None
        body = json.dumps(members).encode()
        gives_up = not valid and choose.random() < 0.4
        message = Message(number, CLIENTS[api_key]["name"], api_key, key, body, expected, gives_up)
        self.messages.append(message)
        return message

    def _key(self, client: str, number: int) -> str:
        """A fresh key, or one that another client has just used: that is no concern of theirs."""
        other, key = self._last_key
        if other not in ("", client) and self._random.random() < 0.1:
            # By two clients, and no more: to who has used it before it would not be fresh.
            self._last_key = ("", "")
            return key
        key = f"{IDEMPOTENCY_KEY}-{self._run_id}-{number}"
        self._last_key = (client, key)
        return key

    def headers_of(self, message: Message) -> dict[str, str]:
        """What its requests carry."""
        headers = {"API-Key": message.api_key}
        if message.key is not None:
            headers["Idempotency-Key"] = message.key
        return headers

    async def attempt(self, message: Message) -> Attempt:
        """Send it once, to any gateway that is not avoided, and note what came of it."""
        await self._gate.wait()
        usable = [sender for sender in self.senders if sender.gateway not in self.avoided]
        sender = self._random.choice(usable)
        headers = self.headers_of(message)
        if self._crash is not None and self._crash.is_reached_by(message, sender.gateway):
            headers[self._crash.header] = self._crash.point
            self._crash, self.crashed = None, message
        self._in_flight += 1
        try:
            body = self._reworded(message)
            attempt = await sender.send(headers, body, self.patience_seconds[sender.gateway])
            attempt.is_reworded = body != message.body
        finally:
            self._in_flight -= 1
        self.note(message, attempt)
        return attempt

    def note(self, message: Message, attempt: Attempt) -> None:
        """Put an attempt on record."""
        message.attempts.append(attempt)
        self.attempts.append(attempt)
        if attempt.is_accepted and attempt.may_have_published:
            self.last_accepted[attempt.gateway] = max(self.last_accepted[attempt.gateway], attempt.began)

    def settle_later(self, message: Message) -> None:
        """Send it again, beside all else, until its sender would let it rest."""
        if not message.is_settled:
            self._beside(self._settle(message))

    async def ask_again(self, message: Message) -> None:
        """Send it once more, whatever it was answered before, until there is an answer that is final."""
        attempt = await self.attempt(message)
        while attempt.answer is None or attempt.code in ("IDEMPOTENCY_IN_PROGRESS", *RETRYABLE):
            await asyncio.sleep(self._random.uniform(0.2, 0.6))
            attempt = await self.attempt(message)
        await self._settle(message)

    async def _start(self) -> None:
        self._gate.set()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self.concurrency)]

    async def _hold(self) -> None:
        self._gate.clear()
        while self._in_flight:
            await asyncio.sleep(0.01)

    async def _finish(self) -> None:
        self._ending.set()
        self._gate.set()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while pending := {task for task in (*self._workers, *self._retries) if not task.done()}:
            if time.monotonic() > deadline:
                return
            await asyncio.wait(pending, timeout=1)
        for task in self._workers:
            task.result()
        if self._bugs:
            raise self._bugs[0]

    async def _close(self) -> None:
        tasks = [*self._workers, *self._retries]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for sender in self.senders:
            sender.close()

    async def _work(self) -> None:
        while not self._ending.is_set():
            await self._gate.wait()
            message = self.compose()
            at_once = 2 if message.key is not None and self._random.random() < 0.05 else 1
            await asyncio.gather(*(self.attempt(message) for _ in range(at_once)))
            while not (self._ending.is_set() or message.is_settled) and _is_down(message.attempts[-1]):
                # Nobody sends on at full speed to who is known to be away.
                await asyncio.sleep(self._random.uniform(0.1, 0.4))
                await self.attempt(message)
            self.settle_later(message)
            if message.is_settled and message.key is not None and self._random.random() < 0.05:
                self._beside(self._ask_later(message))
            await asyncio.sleep(self._random.uniform(0, 2 * self.pause_seconds))

    async def _settle(self, message: Message) -> None:
        while not message.is_settled:
            answer = message.attempts[-1].answer
            told_seconds = 0.3 if answer is None else min(answer.retry_after_seconds, 1.0)
            if answer is not None and answer.code in OF_A_PROVIDER:
                told_seconds = 1.0
            await asyncio.sleep(max(0.1, told_seconds) * self._random.uniform(0.5, 1.0))
            await self.attempt(message)

    async def _ask_later(self, message: Message) -> None:
        await asyncio.sleep(self._random.uniform(0.0, 3.0))
        await self.ask_again(message)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._retries.add(task)
        task.add_done_callback(self._retried)

    def _retried(self, task: asyncio.Task[None]) -> None:
        self._retries.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._bugs.append(error)

    def _reworded(self, message: Message) -> bytes:
        """What this attempt sends: under a key, a retry's payload need only be equal to the first one's."""
        if message.key is None or not message.attempts or self._random.random() < 0.5:
            return message.body
        return reworded(message.body, self._random)


def _is_down(attempt: Attempt) -> bool:
    return attempt.end is End.UNSENT or attempt.code in RETRYABLE
