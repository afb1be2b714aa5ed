"""The embedded file under several processes that are killed, stopped and starved, and on a failing disk."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.embedded.store import EmbeddedStore
from pipeline.facts import Claim, Client
from pipeline.ports import (
    Begun,
    BrokerRefused,
    BrokerUnknown,
)
from tests.contract.outboxes import envelope, usable
from tests.support.embedded import (
    PATIENT_SECONDS,
    rows,
    stored,
    stored_some,
    told,
    until,
    worker,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


async def test_several_processes_create_one_file(path: Path) -> None:
    at = time.time() + 1.5
    assert told([worker("prepare", path, at) for _ in range(4)]) == ["prepared"] * 4
    Database(path).prepare()


def test_every_message_of_several_processes_is_stored_once(path: Path) -> None:
    lines = told([worker("publish", path, name, 300) for name in "abcd"])
    assert len(lines) == 1200
    assert sorted(map(str, stored(path))) == sorted(lines)


def test_a_claim_is_begun_by_one_of_several_processes(path: Path) -> None:
    lines = told([worker("begin", path, 200) for _ in range(4)])
    assert sorted(lines) == sorted(f"key-{number}" for number in range(200))


def test_quota_is_exact_across_processes(path: Path) -> None:
    """Whatever four processes take, and give back twice: what is counted is what they kept."""
    kept = told([worker("take", path, name, 10_000, 90, 30) for name in "abcd"])
    assert len(kept) == 240
    assert rows(path, "SELECT used FROM quotas") == [(240,)]


def test_of_more_takes_than_are_left_exactly_those_left_succeed(path: Path) -> None:
    assert len(told([worker("take", path, name, 99, 170, 0) for name in "abc"])) == 99
    assert rows(path, "SELECT used FROM quotas") == [(99,)]


async def test_nobody_starves_while_another_process_writes_without_a_pause(path: Path) -> None:
    """Each step on the store gets its turn in time."""
    store = EmbeddedStore(Database(path), call_seconds=3)
    with worker("publish", path, "busy", 100_000_000) as busy:
        await until(lambda: path.exists() and stored_some(path))
        await store.start()
        await usable(store)
        for number in range(50):
            found = await store.begin(Claim.on(Client("acme"), f"key-{number}", b"x" * 32))
            assert found == Begun()
        busy.kill()
    await store.close()


@pytest.mark.parametrize("after", [50, 400, 1500])
def test_what_a_killed_process_reported_as_stored_is_stored(path: Path, after: int) -> None:
    """SIGKILL in the middle of heavy publishing: nothing that it was told is missing, and the file is whole."""
    with worker("publish", path, "killed", 1_000_000) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines += process.stdout.readlines()
    reported = {line.strip() for line in lines if line.endswith("\n")}
    found = list(map(str, stored(path)))
    assert len(found) == len(set(found))
    assert reported <= set(found)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    Database(path).prepare()


async def test_a_stopped_process_keeps_others_waiting_no_longer_than_it_is_stopped(path: Path) -> None:
    """SIGSTOP wherever it hits, lock or turn held or not: others are served or refused, and after SIGCONT served."""
    outbox = EmbeddedOutbox(Database(path), confirm_seconds=0.3)
    await outbox.start()
    mine: dict[str, set[str]] = {"stored": set(), "refused": set(), "unknown": set()}

    async def publish(number: int) -> str:
        one, outcome = envelope(tracking_id=f"mine-{number}"), "stored"
        try:
            await outbox.publish(one)
        except BrokerRefused:
            outcome = "refused"
        except BrokerUnknown:
            outcome = "unknown"
        mine[outcome].add(one.tracking_id)
        return outcome

    with worker("publish", path, "paused", 100_000_000) as process:
        await until(lambda: path.exists() and stored_some(path))
        for number in range(10):
            process.send_signal(signal.SIGSTOP)
            await publish(2 * number)
            process.send_signal(signal.SIGCONT)
            await until(lambda: stored_some(path))
        process.kill()
    patient = EmbeddedOutbox(outbox.database, confirm_seconds=PATIENT_SECONDS)
    await patient.publish(envelope())
    await outbox.close()
    found = set(map(str, stored(path)))
    assert mine["stored"] <= found
    assert not mine["refused"] & found


def test_a_failing_disk_is_never_called_stored(path: Path) -> None:
    """Writes fail for a while in mid-work: what is called stored is there, what is called refused is not."""
    outcomes = [line.split() for line in told([worker("fail", path)])]
    by_outcome = {
        kind: {tracking_id for outcome, tracking_id in outcomes if outcome == kind}
        for kind in ("stored", "refused", "unknown")
    }
    found = set(map(str, stored(path)))
    # What failed while it was being written may come back when the file is recovered.
    assert by_outcome["unknown"]
    assert by_outcome["stored"] <= found
    assert not by_outcome["refused"] & found
    assert outcomes[-1][0] == "stored"
