"""Senders under whose messages the power is cut, and what each of them was told."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.support.gateways import SEND

API_KEY = "power-0123456789-secret-tail"
SENDERS = 12
_PATIENCE_SECONDS = 90.0
_PASSING = {"SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN", "IDEMPOTENCY_IN_PROGRESS"}


@dataclass(eq=False)
class Message:
    """One message, its key if it has one, and every answer so far."""

    text: str
    key: str | None
    accepted: set[str] = field(default_factory=set)
    """The tracking ids under which it was accepted."""
    in_doubt: int = 0
    """How many attempts got no answer, or OUTCOME_UNKNOWN."""


@dataclass
class Load:
    """All messages of all senders, over every cut of one disk's life."""

    chance: random.Random
    messages: list[Message] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    forgotten: int = 0
    """Messages asked for again after they were accepted, of which the store knew nothing any more."""
    charged: int = 0
    """Of the quota, by the last answer that said so."""
    quota: int = 10**9

    def __post_init__(self) -> None:
        self._run = uuid.UUID(int=self.chance.getrandbits(128)).hex[:8]
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def sending(self, url: str) -> Iterator[None]:
        """New messages, from all senders, as long as the ``with`` lasts."""
        ended = threading.Event()

        def send(_sender: int) -> None:
            with _client(url, 10) as http:
                while not ended.is_set():
                    message = self._new()
                    self._attempt(http, message)
                    time.sleep(self.pause(0.02))

        with ThreadPoolExecutor(SENDERS) as pool:
            running = [pool.submit(send, sender) for sender in range(SENDERS)]
            try:
                yield
            finally:
                ended.set()
        for sender in running:
            sender.result()

    def accept(self, more: int) -> None:
        """Wait until so many more were accepted."""
        wanted = self.accepted() + more
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.accepted() < wanted:
            assert time.monotonic() < deadline, f"not accepted: {self.codes}"
            time.sleep(0.01)

    def accepted(self) -> int:
        """How many messages were."""
        return sum(1 for message in list(self.messages) if message.accepted)

    def settle(self, url: str) -> None:
        """Repeat each message with a key until it is accepted, as senders do."""
        self._each(
            url, [message for message in self.messages if message.key and not message.accepted], self._insist
        )

    def ask_again(self, url: str, messages: Sequence[Message]) -> None:
        """Repeat messages that were accepted: the answer is to be the same one."""
        self._each(url, messages, self._ask_again)

    def probe(self, url: str) -> None:
        """One more message, of which the answer says how much of the quota is used."""
        with _client(url, 25) as http:
            message = self._new(with_key=True)
            self._insist(http, message)

    def pause(self, most_seconds: float) -> float:
        """A time up to this; the generator is shared by threads."""
        with self._lock:
            return self.chance.uniform(0, most_seconds)

    def _new(self, *, with_key: bool | None = None) -> Message:
        with self._lock:
            number = next(self._numbers)
            # Now and then of several pages of the file.
            text = f"{self._run} {number} ".ljust(self.chance.choice((20, 20, 20, 160, 1600)), "x")
            has_key = self.chance.random() < 0.6 if with_key is None else with_key
            message = Message(text, f"{self._run}-{number}" if has_key else None)
            self.messages.append(message)
        return message

    def _each(
        self, url: str, messages: Sequence[Message], act: Callable[[httpx.Client, Message], None]
    ) -> None:
        with _client(url, 25) as http, ThreadPoolExecutor(SENDERS) as pool:
            for _ in pool.map(lambda message: act(http, message), messages):
                pass

    def _attempt(self, http: httpx.Client, message: Message) -> httpx.Response | None:
        headers = {"API-Key": API_KEY} | ({"Idempotency-Key": message.key} if message.key else {})
        try:
            answer = http.post(SEND, json={"to": "+989121234567", "text": message.text}, headers=headers)
        except httpx.ConnectError:
            self._count("not connected")
            return None
        except httpx.TransportError:
            self._count("no answer")
            message.in_doubt += 1
            return None
        if answer.status_code == 202:
            self._count("202")
            message.accepted.add(answer.json()["tracking_id"])
        else:
            code = answer.json()["error_code"]
            self._count(code)
            message.in_doubt += code == "OUTCOME_UNKNOWN"
        return answer

    def _count(self, what: str) -> None:
        with self._lock:
            self.codes[what] += 1

    def _insist(self, http: httpx.Client, message: Message) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self._attempt(http, message)
            if answer is not None and answer.status_code == 202:
                self._note_quota(answer)
                return
            assert answer is None or answer.json()["error_code"] in _PASSING, answer.text
            time.sleep(0.1)
        raise AssertionError(f"{message.key} was never accepted: {self.codes}")

    def _ask_again(self, http: httpx.Client, message: Message) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self._attempt(http, message)
            if answer is not None and answer.status_code == 202:
                with self._lock:
                    self.replays += 1
                    self.forgotten += "Idempotent-Replayed" not in answer.headers
                return
            time.sleep(0.1)
        raise AssertionError(f"{message.key} was never answered again: {self.codes}")

    def _note_quota(self, answer: httpx.Response) -> None:
        for part in answer.headers.get("RateLimit", "").split(";"):
            name, _, value = part.partition("=")
            if name == "r":
                with self._lock:
                    self.charged = max(0, self.quota - int(value))


def _client(url: str, timeout_seconds: float) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=timeout_seconds, limits=httpx.Limits(max_connections=SENDERS))
