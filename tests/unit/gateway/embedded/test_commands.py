"""Looking at the embedded outbox, and the order of things when its messages are moved on."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded.commands import DONE, MISTAKE, UNFINISHED, forward, show_messages
from gateway.embedded.database import Database
from gateway.embedded.filelock import FileLock
from gateway.embedded.outbox import EmbeddedOutbox
from gateway.rabbitmq import RabbitOutbox, Topology
from pipeline.envelope import Envelope
from pipeline.facts import Message, Route
from tests.contract.outboxes import envelope

PATIENT_SECONDS = 30.0
NOWHERE = "amqp://user:secret@127.0.0.1:1/"


def nowhere() -> RabbitOutbox:
    """A broker that is not there."""
    return RabbitOutbox(NOWHERE, Topology(), "server-a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[EmbeddedOutbox]:
    """An open one."""
    outbox = EmbeddedOutbox(Database(path))
    await outbox.start()
    await outbox.remove({})
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
    code = show_messages(path) if command == "messages" else forward(path, nowhere())
    assert code == MISTAKE
    printed = capfdbinary.readouterr()
    assert printed.out == b""
    assert printed.err.decode().startswith(f"error: {path}: ")
    assert complaint in printed.err.decode()
    assert list(path.parent.iterdir()) == ([] if content is None else [path])
    assert content is None or path.read_bytes() == content


def start(path: Path, call: str) -> subprocess.Popen[str]:
    """A process that makes one call of ``gateway.embedded.commands``."""
    program = f"import sys; from gateway.embedded.commands import *; from gateway.rabbitmq import *; sys.exit({call})"
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


def test_one_process_forwards_a_file(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Two would change the order, and double what both have in flight."""
    Database(path).prepare()
    lock = FileLock(path.with_name(path.name + "-forward"))
    assert lock.take()
    assert forward(path, nowhere()) == UNFINISHED
    assert b"another process is forwarding" in capfdbinary.readouterr().err
    lock.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_broker_that_is_down_is_waited_for(
    outbox: EmbeddedOutbox, path: Path, number: signal.Signals
) -> None:
    """The reason is told, without the password; nothing is lost when the operator has enough."""
    sent = await publish(outbox, 3)
    call = f"forward(sys.argv[1], RabbitOutbox({NOWHERE!r}, Topology(), 'server-a'))"
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
