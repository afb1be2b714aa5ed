"""Senders that go on through every failure, and what must hold of what they sent once it is over."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from gateway.redis.store import RedisStore
from pipeline.facts import Client
from tests.contract.stores import used_by
from tests.support.broker import consume
from tests.support.gateways import NUMBER, SEND, Backend, key_of

SETTLED_WITHIN_SECONDS = 120.0

# What a sender may be told while a part fails and the gateway does not: by the README, all of it is worth a retry.
PASSING = {"SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN", "IDEMPOTENCY_IN_PROGRESS"}


class Served(Protocol):
    """A gateway that can be sent to, however it is run."""

    @property
    def url(self) -> str:
        """Where it listens."""

    def log_text(self) -> str:
        """Everything that it has printed."""


@dataclass
class Message:
    """One message: its client, its text, which is its Idempotency-Key as well, and the answers to all attempts."""

    client: str
    text: str
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def tracking_ids(self) -> set[str]:
        """Those of its 202s: one, however often it was sent."""
        return {answer["tracking_id"] for status, answer in self.answers if status == 202}


class Load:
    """Sends messages of each of ``clients``, one after the other, until it is stopped; each until it is accepted."""

    def __init__(self, gateway: Served, clients: Sequence[str] = ("acme",), senders: int = 4) -> None:
        self.gateway = gateway
        self.messages: list[Message] = []
        # Claims have no prefix of their own: another run's keys are other keys.
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_on, args=(clients[n % len(clients)],)) for n in range(senders)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(SETTLED_WITHIN_SECONDS)

    def accepted(self, client: str | None = None) -> int:
        """How many messages have their 202 by now."""
        return sum(
            bool(message.tracking_ids) for message in list(self.messages) if client in {None, message.client}
        )

    def wait_for(
        self, more: int, client: str | None = None, seconds: float = SETTLED_WITHIN_SECONDS
    ) -> float:
        """Wait until so many more are accepted; returns the seconds that it took."""
        began, wanted = time.monotonic(), self.accepted(client) + more
        while self.accepted(client) < wanted:
            told = Counter(
                str(answer.get("error_code")) for m in self.messages[-20:] for _, answer in m.answers
            )
            assert time.monotonic() < began + seconds, (
                f"nothing more is accepted: {told}\n{self.gateway.log_text()[-4000:]}"
            )
            time.sleep(0.02)
        return time.monotonic() - began

    def check(self, url: str, queue: str) -> Counter[str]:
        """Compare with what is on the queue of the broker at ``url``; returns and prints the figures."""
        stored: dict[str, set[str]] = defaultdict(set)
        copies = 0
        for envelope in asyncio.run(envelopes(url, queue)):
            stored[envelope["text"]].add(envelope["tracking_id"])
            copies += 1
        for message in self.messages:
            assert all(
                status == 202 or answer["error_code"] in PASSING for status, answer in message.answers
            ), message
            assert len(message.tracking_ids) == 1, message
        missing = [message for message in self.messages if not message.tracking_ids <= stored[message.text]]
        doubled = [message for message in self.messages if len(stored[message.text]) > 1]
        told = Counter(
            answer.get("error_code", "accepted") for message in self.messages for _, answer in message.answers
        )
        told.update(messages=len(self.messages), stored=copies, missing=len(missing), doubled=len(doubled))
        assert "s3cr3t" not in self.gateway.log_text()
        print(dict(told))  # noqa: T201 - the figures, for `pytest -rP`
        assert not missing, f"accepted and not on the queue: {missing[:3]}"
        assert not doubled, f"two distinct messages for one key: {doubled[:3]}"
        return told

    def _send_on(self, client: str) -> None:
        with httpx.Client(base_url=self.gateway.url, timeout=30) as http:
            while not self._stopping.is_set():
                message = Message(client, f"{self._name}-{next(self._numbers)}")
                self.messages.append(message)
                deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
                while not self._send(http, message) and time.monotonic() < deadline:
                    time.sleep(0.1)
                time.sleep(0.01)

    def _send(self, http: httpx.Client, message: Message) -> bool:
        headers = {"API-Key": key_of(message.client), "Idempotency-Key": message.text}
        answer = http.post(SEND, json={"to": NUMBER, "text": message.text}, headers=headers)
        message.answers.append((answer.status_code, answer.json()))
        return answer.status_code == 202


async def envelopes(url: str, queue: str) -> list[dict[str, Any]]:
    """Everything on the queue."""
    return [httpx.Response(200, content=body).json() for _, body in await consume(url, queue)]


def used(backend: Backend, client: str) -> int:
    """The client's messages of today, as the store behind ``backend`` counts them."""

    async def ask() -> int:
        store = RedisStore(backend.redis_url, quota_prefix=backend.queue, call_seconds=30)
        await store.start()
        try:
            return await used_by(store, Client(client))
        finally:
            await store.close()

    return asyncio.run(ask())
