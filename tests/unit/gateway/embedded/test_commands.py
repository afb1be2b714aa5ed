"""Looking at the embedded outbox, and the order of things when its messages are moved on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded.commands import DONE, MISTAKE, UNFINISHED, forward, show_messages
from gateway.embedded.database import Database
from gateway.embedded.filelock import FileLock
from gateway.embedded.mover import Mover
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.rabbitmq import Topology
from pipeline.envelope import Envelope
from pipeline.facts import Message, Route
from pipeline.ports import BrokerRefused, BrokerUnknown
from tests.contract.outboxes import envelope

PATIENT_SECONDS = 30.0
NOWHERE = "amqp://user:secret@127.0.0.1:1/"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[EmbeddedOutbox]:
    """An open one."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await outbox.remove([])
    yield outbox
    await outbox.close()


async def publish(outbox: EmbeddedOutbox, count: int) -> list[Envelope]:
    """Store so many messages, one after the other."""
    sent = [envelope(f"text {number}") for number in range(count)]
    for one in sent:
        await outbox.publish(one)
    return sent


def lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# messages


async def test_messages_are_shown_in_order_without_what_is_private(
    outbox: EmbeddedOutbox, path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    first = replace(envelope(), message=Message("+989121234567", "سلام دنیا", 60, None), route=Route())
    second = envelope("Hello")
    for one in (first, second):
        await outbox.publish(one)
    assert show_messages(path) == DONE
    printed = capfdbinary.readouterr().out.decode()
    shown = lines(printed)
    assert [line["tracking_id"] for line in shown] == [first.tracking_id, second.tracking_id]
    assert list(shown[0]) == [
        "position",
        "tracking_id",
        "client",
        "to",
        "characters",
        "providers",
        "created_at",
        "expires_at",
    ]
    assert shown[0]["position"] < shown[1]["position"]
    assert shown[0]["client"] == "acme"
    assert shown[0]["to"] == "+98912***4567"
    assert shown[0]["characters"] == 9
    assert [line["providers"] for line in shown] == [[], ["alpha"]]
    lifetime = [datetime.fromisoformat(shown[0][name]) for name in ("created_at", "expires_at")]
    assert lifetime[1] - lifetime[0] == timedelta(seconds=60)
    assert shown[0]["created_at"].endswith("Z")
    assert "سلام" not in printed
    assert "Hello" not in printed
    assert "+989121234567" not in printed


async def test_full_messages_have_text_and_number(
    outbox: EmbeddedOutbox, path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    await outbox.publish(envelope("سلام"))
    assert show_messages(path, full=True) == DONE
    [shown] = lines(capfdbinary.readouterr().out.decode())
    assert (shown["to"], shown["text"]) == ("+989121234567", "سلام")


async def test_more_messages_than_a_portion_are_all_shown(
    outbox: EmbeddedOutbox, path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    sent = [envelope() for _ in range(1201)]
    await asyncio.gather(*map(outbox.publish, sent))
    assert show_messages(path) == DONE
    shown = lines(capfdbinary.readouterr().out.decode())
    assert {line["tracking_id"] for line in shown} == {one.tracking_id for one in sent}
    assert len(shown) == 1201


async def test_an_empty_outbox_is_said_to_be_empty(
    outbox: EmbeddedOutbox, path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert show_messages(path) == DONE
    printed = capfdbinary.readouterr()
    assert printed.out == b""
    assert printed.err == b"no message waits\n"


@pytest.mark.parametrize("command", ["messages", "forward"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "not there"), (b"", "no gateway of this release"), (b"no database " * 99, "no SQLite database")],
)
def test_a_file_that_is_no_outbox_is_a_mistake(
    path: Path, capfdbinary: pytest.CaptureFixture[bytes], command: str, content: bytes | None, complaint: str
) -> None:
    """It is named, and neither created nor changed."""
    if content is not None:
        path.write_bytes(content)
    code = show_messages(path) if command == "messages" else forward(path, NOWHERE, Topology(), "server-a")
    assert code == MISTAKE
    printed = capfdbinary.readouterr()
    assert printed.out == b""
    assert printed.err.decode().startswith(f"error: {path}: ")
    assert complaint in printed.err.decode()
    assert list(path.parent.iterdir()) == ([] if content is None else [path])
    assert content is None or path.read_bytes() == content


def start(path: Path, call: str) -> subprocess.Popen[str]:
    """A process that makes one call of ``gateway.embedded.commands``."""
    program = f"import sys; from gateway.embedded.commands import *; sys.exit({call})"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=Path(__file__).parents[4],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_followed_messages_go_on(outbox: EmbeddedOutbox, path: Path) -> None:
    """What was there, then what comes, until Ctrl-C, which is no error."""
    [first] = await publish(outbox, 1)
    with start(path, "show_messages(sys.argv[1], follow=True)") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert (
            json.loads(await asyncio.to_thread(process.stdout.readline))["tracking_id"] == first.tracking_id
        )
        [second] = await publish(outbox, 1)
        assert (
            json.loads(await asyncio.to_thread(process.stdout.readline))["tracking_id"] == second.tracking_id
        )
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, PATIENT_SECONDS) == DONE
        assert process.stderr.read() == ""


async def test_a_reader_that_has_seen_enough_is_no_error(outbox: EmbeddedOutbox, path: Path) -> None:
    """As in ``sms-gateway messages | head -1``."""
    await asyncio.gather(*(outbox.publish(envelope()) for _ in range(600)))
    with start(path, "show_messages(sys.argv[1])") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, PATIENT_SECONDS) == DONE
        assert process.stderr.read() == ""


# forward


def test_a_url_that_is_none_is_a_mistake(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Database(path).prepare()
    assert forward(path, "amqp://user:secret@127.0.0.1:port/", Topology(), "server-a") == MISTAKE
    complaint = capfdbinary.readouterr().err.decode()
    assert complaint.startswith("error: --to: ")
    assert "secret" not in complaint


def test_one_process_forwards_a_file(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Two would change the order, and double what both have in flight."""
    Database(path).prepare()
    lock = FileLock(path.with_name(path.name + "-forward"))
    assert lock.take()
    assert forward(path, NOWHERE, Topology(), "server-a") == UNFINISHED
    assert b"another process is forwarding" in capfdbinary.readouterr().err
    lock.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_broker_that_is_down_is_waited_for(
    outbox: EmbeddedOutbox, path: Path, number: signal.Signals
) -> None:
    """The reason is told, without the password; nothing is lost when the operator has enough."""
    sent = await publish(outbox, 3)
    call = f"forward(sys.argv[1], {NOWHERE!r}, Topology(), 'server-a')"
    with start(path, call) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = ""
        while not told.startswith("waiting: "):  # Libraries may have logged before.
            told = await asyncio.to_thread(process.stderr.readline)
        assert "secret" not in told
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, PATIENT_SECONDS) == UNFINISHED
        figures = json.loads(process.stdout.read())
    assert (figures["moved"], figures["left"]) == (0, 3)
    assert [message.tracking_id for message in await outbox.waiting()] == [one.tracking_id for one in sent]


class Broker:
    """A destination that fails as it is told to, by attempt."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.attempts: list[tuple[str, bytes, int]] = []
        self.stored: list[str] = []
        self.on_publish: Callable[[], None] = lambda: None

    async def publish_body(self, tracking_id: str, body: bytes, ttl_ms: int, created_at: datetime) -> None:
        self.attempts.append((tracking_id, body, ttl_ms))
        self.on_publish()
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.stored.append(tracking_id)


async def test_messages_are_moved_in_order_with_the_life_that_is_left(outbox: EmbeddedOutbox) -> None:
    sent = await publish(outbox, 250)
    broker = Broker()
    mover = Mover(outbox, broker, lambda notice: None)
    await mover.run(asyncio.Event(), follow=False)
    assert [(tracking_id, body) for tracking_id, body, _ in broker.attempts] == [
        (one.tracking_id, one.to_json()) for one in sent
    ]
    assert all(3_000_000 < ttl_ms <= 3_600_000 for _, _, ttl_ms in broker.attempts)
    assert (mover.moved, mover.expired, mover.repeated) == (250, 0, 0)
    assert await outbox.count() == 0


async def test_an_expired_message_is_moved_with_no_time_to_live(outbox: EmbeddedOutbox) -> None:
    await outbox.publish(replace(envelope(), created_at=datetime.now(UTC) - timedelta(days=2)))
    broker = Broker()
    mover = Mover(outbox, broker, lambda notice: None)
    await mover.run(asyncio.Event(), follow=False)
    assert [ttl_ms for _, _, ttl_ms in broker.attempts] == [0]
    assert (mover.moved, mover.expired) == (1, 1)


async def test_a_failed_publish_is_tried_again_before_the_next(outbox: EmbeddedOutbox) -> None:
    """Order is kept; the operator is told why it waits; only an unknown outcome may have doubled a message."""
    one, two, three = [one.tracking_id for one in await publish(outbox, 3)]
    broker = Broker(None, BrokerRefused("the queue is full"), BrokerUnknown("no confirm"), None)
    notices: list[str] = []
    mover = Mover(outbox, broker, notices.append)
    await mover.run(asyncio.Event(), follow=False)
    assert [tracking_id for tracking_id, _, _ in broker.attempts] == [one, two, two, two, three]
    assert notices == ["waiting: the queue is full", "waiting: no confirm"]
    assert (mover.moved, mover.repeated) == (3, 1)


async def test_a_message_stays_until_it_is_confirmed(outbox: EmbeddedOutbox) -> None:
    """At the moment of each publish its message, and all behind it, are still in the file."""
    sent = [one.tracking_id for one in await publish(outbox, 5)]
    broker = Broker()
    left: list[list[str]] = []

    def look() -> None:
        reader = outbox.database._reader
        query = "SELECT tracking_id FROM messages ORDER BY position"
        left.append(reader.read(lambda cursor: [row[0] for row in cursor.execute(query)]))

    broker.on_publish = look
    await Mover(outbox, broker, lambda notice: None).run(asyncio.Event(), follow=False)
    assert left == [sent[number:] for number in range(5)]


async def test_a_message_that_cannot_be_removed_is_not_published_again(outbox: EmbeddedOutbox) -> None:
    """The file is locked when the confirm comes: removing is tried until it succeeds, and only then the next moves."""
    sent = [one.tracking_id for one in await publish(outbox, 2)]
    hasty = EmbeddedOutbox(outbox.database, confirm_seconds=0.02)
    broker, opened = Broker(), threading.Event()
    notices: list[str] = []
    holding: list[asyncio.Task[bool]] = []

    def hold_the_file() -> None:
        if not holding:
            hold = outbox.database.run(lambda _: opened.wait(PATIENT_SECONDS), PATIENT_SECONDS)
            holding.append(asyncio.create_task(hold))

    def note(notice: str) -> None:
        notices.append(notice)
        opened.set()

    broker.on_publish = hold_the_file
    await Mover(hasty, broker, note).run(asyncio.Event(), follow=False)
    assert broker.stored == sent
    assert notices
    assert await holding[0]
    assert await outbox.count() == 0


async def test_following_moves_what_comes_until_it_is_stopped(outbox: EmbeddedOutbox) -> None:
    broker, stop = Broker(), asyncio.Event()
    mover = Mover(outbox, broker, lambda notice: None)
    following = asyncio.create_task(mover.run(stop, follow=True))
    for count in (3, 6):
        await publish(outbox, 3)
        async with asyncio.timeout(PATIENT_SECONDS):
            while mover.moved < count:
                await asyncio.sleep(0.01)
    stop.set()
    await following
    assert await outbox.count() == 0


async def test_stopping_lets_the_message_in_flight_finish(outbox: EmbeddedOutbox) -> None:
    """It is confirmed and removed; the next one is not begun."""
    sent = await publish(outbox, 3)
    broker, stop = Broker(), asyncio.Event()
    broker.on_publish = stop.set
    await Mover(outbox, broker, lambda notice: None).run(stop, follow=False)
    assert broker.stored == [sent[0].tracking_id]
    assert [message.tracking_id for message in await outbox.waiting()] == [
        one.tracking_id for one in sent[1:]
    ]


def test_a_lock_is_gone_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from gateway.embedded.filelock import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); print(lock.take(), flush=True); time.sleep(60)"
    )
    lock = FileLock(path)
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not lock.take()
        holder.kill()
    assert lock.take()
    lock.release()
    with contextlib.closing(FileLock(path)) as other:
        assert other.take()
        assert not lock.take()
    assert lock.take()
    lock.close()
