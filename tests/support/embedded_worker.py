"""A process that shares an embedded file with others: ``python -m tests.support.embedded_worker JOB PATH ARGUMENT...``.

It prints a line for each thing that it was told is done, so that it may be killed at any time.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.facts import Claim, Client, Reservation
from pipeline.ports import Begun, BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope

PATIENT_SECONDS = 60.0


def say(*words: object) -> None:
    """Print a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def publish(path: str, name: str, count: str) -> None:
    """Publish messages, 16 at a time, and print the tracking_id of each that is stored."""
    outbox = EmbeddedOutbox(Database(path), confirm_seconds=PATIENT_SECONDS)
    await outbox.start()
    numbers = iter(range(int(count)))

    async def some() -> None:
        for number in numbers:
            one = envelope(tracking_id=f"{name}-{number}")
            await outbox.publish(one)
            say(one.tracking_id)

    await asyncio.gather(*(some() for _ in range(16)))
    await outbox.close()


async def begin(path: str, keys: str) -> None:
    """Begin a claim on each of so many keys, all at once, and print the keys that it got."""
    store = EmbeddedStore(Database(path), call_seconds=PATIENT_SECONDS)
    await store.start()
    client, fingerprint = Client("acme"), hashlib.sha256(b"payload").digest()
    claims = [Claim.on(client, f"key-{number}", fingerprint) for number in range(int(keys))]
    for claim, found in zip(claims, await asyncio.gather(*map(store.begin, claims)), strict=True):
        if isinstance(found, Begun):
            say(claim.key)
    await store.close()


async def take(path: str, name: str, limit: str, count: str, returned: str) -> None:
    """Take so many messages of a day's limit, give the first few back, twice, and print those that it keeps."""
    store = EmbeddedStore(Database(path), call_seconds=PATIENT_SECONDS)
    await store.start()
    client, today = Client("acme", daily_quota=int(limit)), datetime.now(UTC).date()

    async def one(number: int) -> None:
        reservation = await store.take(client, today, f"{name}-{number}", None)
        if not isinstance(reservation, Reservation):
            return
        if number >= int(returned):
            say(reservation.token)
        else:
            await asyncio.gather(store.give_back(reservation), store.give_back(reservation))

    await asyncio.gather(*map(one, range(int(count))))
    await store.close()


async def fail(path: str) -> None:
    """Publish on a disk that fails after a while and recovers after a while; print each outcome, by tracking_id."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    for number in itertools.count():
        if number in {20, 60}:
            # A write beyond this length of a file fails, as on a broken disk.
            most = 65536 if number == 20 else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        one = envelope("x" * 1600, tracking_id=f"fail-{number}")
        outcome = "stored"
        try:
            await outbox.publish(one)
        except BrokerRefused:
            outcome = "refused"
        except BrokerUnknown:
            outcome = "unknown"
        say(outcome, one.tracking_id)
        if number > 60 and outcome == "stored":
            break
    await outbox.close()


async def lock(path: str) -> None:
    """Hold the file's write lock until killed."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENT_SECONDS)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    await asyncio.sleep(PATIENT_SECONDS)


async def prepare(path: str, at: str) -> None:
    """Create the file at a moment that is given."""
    time.sleep(max(0.0, float(at) - time.time()))  # noqa: ASYNC251 - nothing else runs here
    Database(path).prepare()
    say("prepared")


JOBS: dict[str, Callable[..., Awaitable[None]]] = {
    job.__name__: job for job in (publish, begin, take, fail, lock, prepare)
}


async def main() -> None:
    """Do what the command line says."""
    _, job, *arguments = sys.argv
    await JOBS[job](*arguments)


if __name__ == "__main__":
    asyncio.run(main())
