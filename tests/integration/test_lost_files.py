"""Files beside the embedded database and the spool, taken away under a running gateway that is killed then."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.processes import family
from tests.support.gateways import Backend, Gateway
from tests.support.waiting import until

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"

pytestmark = pytest.mark.timeout(180)


def settings(path: Path) -> dict[str, str]:
    """Of a gateway that keeps its messages at ``path``: as its outbox, or as its spool while RabbitMQ is away."""
    url = f"embedded:{path.with_name('gateway.db')}"
    environ = dict(Backend("embedded", url, url).environ())
    return (
        environ
        if path.name == "gateway.db"
        else {**environ, "RABBITMQ_URL": NOWHERE, "RABBITMQ_SPOOL": str(path)}
    )


@contextlib.contextmanager
def serving(path: Path, workers: int) -> Iterator[Gateway]:
    gateway = Gateway(path.parent, settings(path), workers)
    try:
        yield gateway.start()
    finally:
        gateway.__exit__()


def texts(path: Path) -> set[str]:
    """What is found in the file by who opens it now."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT json_extract(CAST(body AS TEXT), '$.text') FROM messages"
        return {text for (text,) in connection.execute(query)}


@pytest.mark.parametrize(
    ("file", "name", "workers"),
    [
        ("gateway.db", "-wal", 1),
        ("gateway.db", "-shm", 1),
        ("gateway.db", "-wal", 2),
        ("spool.db", "-wal", 1),
    ],
)
def test_what_is_accepted_after_a_file_was_taken_away_is_there_after_a_kill(
    tmp_path: Path, file: str, name: str, workers: int
) -> None:
    path = tmp_path / file
    accepted: set[str] = set()
    refused = 0
    with serving(path, workers) as gateway:

        def send() -> bool:
            nonlocal refused
            text = f"message {len(accepted)} {refused}"
            status = gateway.send(text=text).status_code
            assert status in {202, 503}
            if status == 202:
                accepted.add(text)
            refused += status == 503
            return status == 202

        for _ in range(10):
            send()
        path.with_name(path.name + name).unlink()
        for _ in range(10):
            send()
        assert refused
        # With two workers as soon as the other one has looked at it, too.
        until(lambda: gateway.http.get("/readyz").status_code == 200 and send(), seconds=60)
        for _ in range(10):
            send()
        assert f"{path.name}{name} was removed or replaced while it was in use" in gateway.log_text()
        assert gateway.process is not None
        for process in family(gateway.process.pid):
            os.kill(process, signal.SIGKILL)
        gateway.process.wait()
    assert len(accepted) >= 20
    assert accepted <= texts(path)
