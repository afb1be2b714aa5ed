"""The times and sizes of the product are held to the pages that promise them, and to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import backends, process, retries, serve, supervisor
from gateway.config import settings
from gateway.embedded import schema
from gateway.http import limits, protocol, transport
from gateway.observability.metrics import Metrics
from gateway.rabbitmq import connection
from gateway.redis import link
from gateway.redis import store as redis_store
from pipeline import boundary
from pipeline.timing import deadline

ROOT = Path(__file__).parents[2]
OPERATING, ARCHITECTURE = (
    " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    for page in ("operating.md", "architecture.md")
)

END_SECONDS = 15
"""After SIGTERM."""


def chosen(redis_url: str, rabbitmq_url: str, **more: str) -> Any:
    """What serves with these URLs, none of its times overridden by a test."""
    configured = settings.load({"REDIS_URL": redis_url, "RABBITMQ_URL": rabbitmq_url, **more})
    return backends.choose(configured, Metrics())


EMBEDDED = chosen("embedded:never-opened.db", "embedded:never-opened.db")
SERVERS = chosen("redis://127.0.0.1:1/", "amqp://127.0.0.1:1/", RABBITMQ_SPOOL="never-opened.db")
STORES = {"redis": SERVERS.store, "embedded": EMBEDDED.store}


def pauses(least_and_most_seconds: tuple[float, float]) -> str:
    least, most = least_and_most_seconds
    return f"from {least:g} to {most:g} s apart"


PROMISES: dict[str, tuple[str, str]] = {
    "confirm, RabbitMQ": (
        ARCHITECTURE,
        f", {SERVERS.broker.broker._publisher._confirm_seconds:g} s for a confirm |",
    ),
    "confirm, embedded": (ARCHITECTURE, f", {EMBEDDED.broker._confirm_seconds:g} s for a confirm |"),
    **{
        f"call, {name}": (ARCHITECTURE, f", {store._call_seconds * 1000:g} ms for a call of the store,")
        for name, store in STORES.items()
    },
    **{
        f"lease, {name}": (ARCHITECTURE, f"lease ({store._lease_ms / 1000:g} s, by the store's clock)")
        for name, store in STORES.items()
    },
    "patience of a spool": (ARCHITECTURE, f"| confirmed within {SERVERS.broker._patience_seconds:g} s |"),
    "pauses, Redis": (ARCHITECTURE, f"Reconnects by itself; Redis: {pauses(link._PAUSE_SECONDS)}"),
    "pauses, RabbitMQ": (ARCHITECTURE, f"reconnects by itself, {pauses(connection._RETRY_SECONDS)}"),
    "head": (OPERATING, f"heads ({protocol.HEAD_BYTES / 1024:g} KiB, {protocol.HEAD_SECONDS:g} s)"),
    "write": (OPERATING, f"may take none of its answers ({transport.WRITE_SECONDS:g} s)"),
    "requests ahead": (OPERATING, f"ahead of their answers ({limits.MOST_WAITING}),"),
    "own files": (OPERATING, f"less {limits.OWN_FILES} that it keeps for itself"),
    "body": (ARCHITECTURE, f"| {deadline.BODY_SECONDS:g} s for the body,"),
    "request": (ARCHITECTURE, f", {deadline.REQUEST_SECONDS:g} s for the rest,"),
    "body after SIGTERM": (
        ARCHITECTURE,
        f"bodies that are still arriving have {boundary._DRAIN_BODY_SECONDS:g} s",
    ),
    "end": (ARCHITECTURE, f"exit code 0 within {END_SECONDS} s |"),
    "owed steps": (ARCHITECTURE, f"tried again for {retries.RETRY_SECONDS / 60:g} minutes"),
}


@pytest.mark.parametrize(("page", "promise"), PROMISES.values(), ids=PROMISES)
def test_what_is_promised_is_what_is_built(page: str, promise: str) -> None:
    """A time or a size that changes in the code alone, or on the page alone, breaks a promise."""
    assert promise in page


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_a_request_ends_seconds_before_its_lease(store: Any) -> None:
    """Its last step is still to be taken after its deadline, and may take as long as a call."""
    ended_seconds = deadline.REQUEST_SECONDS + store._call_seconds
    assert store._lease_ms / 1000 - ended_seconds > 2


@pytest.mark.parametrize(
    "note_seconds",
    [redis_store._RESERVATION_MS / 1000, schema.RESERVATION_SECONDS],
    ids=["redis", "embedded"],
)
def test_a_reservation_is_remembered_for_as_long_as_it_may_be_given_back(note_seconds: float) -> None:
    """A give-back that is tried again for the last time still finds whether anything was taken."""
    assert note_seconds > retries.RETRY_SECONDS + deadline.REQUEST_SECONDS


def test_what_has_begun_is_answered_before_the_process_is_ended() -> None:
    """After SIGTERM: the rest of a body, then the request, then the server's own patience, then all that is closed.

    Whatever hangs even so is ended by force: by its process, and from outside.
    """
    answered_seconds = boundary._DRAIN_BODY_SECONDS + deadline.REQUEST_SECONDS
    assert answered_seconds < serve._GRACE_SECONDS < process.CLOSE_SECONDS
    assert process.CLOSE_SECONDS < process.END_SECONDS < supervisor.END_SECONDS < END_SECONDS


def test_a_sender_who_takes_no_answer_is_given_up_before_a_request_is() -> None:
    """Otherwise it would hold up the end of the process."""
    assert transport.WRITE_SECONDS < deadline.REQUEST_SECONDS
