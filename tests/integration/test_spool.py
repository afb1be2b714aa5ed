"""Outages of a real RabbitMQ that senders do not notice: nothing lost, nothing refused, everything in its order.

``SPOOL_OUTAGE_SECONDS`` makes the outage under load as long as one likes; starting RabbitMQ again comes on top. With
pytest's ``-s`` that test tells its figures.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.disks import fill, small_disk
from tests.support.gateways import SEND, Backend, Gateway, key_of
from tests.support.scrape import value
from tests.support.servers import RabbitServer, RedisServer, installed
from tests.support.waiting import until

OUTAGE_SECONDS = float(os.environ.get("SPOOL_OUTAGE_SECONDS", "5"))
PATIENT_SECONDS = 90.0
NOWHERE = "amqp://guest:guest@127.0.0.1:1/"

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300 + OUTAGE_SECONDS)]


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """One for these tests alone: they stop it, block it and pause it."""
    with installed(RabbitServer) as server:
        yield server


@dataclass
class Spooled:
    """A backend whose gateways have a spool, and what waits there."""

    backend: Backend
    path: Path

    def waiting(self) -> int:
        """How many messages are in the file."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection:
            (found,) = connection.execute("SELECT count(*) FROM messages").fetchone()
        return int(found)

    def texts(self) -> list[str]:
        """The texts on the queue, in order, each tracking_id once: as the delivery side goes through them."""
        first = {envelope["tracking_id"]: envelope["text"] for envelope in reversed(self.backend.take_all())}
        return list(reversed(first.values()))


@pytest.fixture
def spooled(rabbit: RabbitServer, redis_server: RedisServer, tmp_path: Path) -> Spooled:
    return Spooled(Backend("spool", redis_server.url, rabbit.url), tmp_path / "spool.db")


StartGateway = Callable[..., Gateway]


@pytest.fixture
def start_gateway(spooled: Spooled, tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways with a spool, and ends them."""
    running: list[Gateway] = []

    def start(*, workers: int = 1, ready: bool = True, **environ: str) -> Gateway:
        spool = {"RABBITMQ_SPOOL": str(spooled.path)}
        gateway = Gateway(tmp_path, {**spooled.backend.environ(), **spool, **environ}, workers)
        running.append(gateway)
        return gateway.start(ready=ready)

    yield start
    for gateway in running:
        gateway.__exit__()


@dataclass
class Load:
    """Senders, each with a number and keys of its own, who send one message after the other until it is accepted."""

    url: str
    senders: int = 8
    accepted: list[int] = field(default_factory=list)
    ids: dict[str, set[str]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __enter__(self) -> Self:
        self.accepted = [0] * self.senders
        self._threads = [threading.Thread(target=self._send, args=[sender]) for sender in range(self.senders)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENT_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def accept_more(self, messages: int) -> None:
        """Wait until so many more were accepted."""
        wanted = sum(self.accepted) + messages
        until(lambda: sum(self.accepted) >= wanted, seconds=PATIENT_SECONDS)

    def _send(self, sender: int) -> None:
        with httpx.Client(base_url=self.url, timeout=25) as http:
            while not self._ended.is_set():
                self._insist(http, sender, self.accepted[sender])
                self.accepted[sender] += 1
                time.sleep(0.05)

    def _insist(self, http: httpx.Client, sender: int, number: int) -> None:
        key = f"{self._run}-{sender}-{number}"
        body = {"to": f"+98912000000{sender}", "text": f"{sender} {number}"}
        deadline = time.monotonic() + PATIENT_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = http.post(
                    SEND, json=body, headers={"API-Key": key_of("acme"), "Idempotency-Key": key}
                )
            except httpx.TransportError:
                self.broken += 1
            else:
                self.ids.setdefault(key, set()).add(answer.json()["tracking_id"])
                if answer.status_code == 202:
                    return
                code = answer.json()["error_code"]
                self.codes[code] = self.codes.get(code, 0) + 1
            time.sleep(0.1)
        raise AssertionError(f"{key} was never accepted")

    def agrees_with(self, texts: list[str]) -> None:
        """Check that everything accepted arrived, once, in each sender's order."""
        by_sender: dict[str, list[str]] = {}
        for text in texts:
            sender, number = text.split()
            by_sender.setdefault(sender, []).append(number)
        for index, count in enumerate(self.accepted):
            assert by_sender[str(index)] == [str(number) for number in range(count)]
        assert all(len(found) == 1 for found in self.ids.values())


def health(gateway: Gateway) -> tuple[int, Any]:
    answer = gateway.http.get("/readyz")
    return answer.status_code, answer.json()


def until_status(gateway: Gateway, status: str) -> Any:
    """Wait for this word of ``/readyz``, which must come with the right status code; returns the dependencies."""
    found: Any = None

    def reached() -> bool:
        nonlocal found
        with contextlib.suppress(httpx.TransportError):
            code, found = health(gateway)
            assert (code == 200) == (found["status"] in {"ready", "degraded"})
            return bool(found["status"] == status)
        return False

    until(reached, seconds=PATIENT_SECONDS)
    return found["dependencies"]


def refusals_of_publish(gateway: Gateway) -> list[Any]:
    """What was not accepted for the broker's or the spool's sake; other refusals are the busy machine's."""
    # The line in which a killed process was interrupted is none.
    lines = re.findall(r'^\{.*"stage":"publish".*\}$', gateway.log_text(), re.MULTILINE)
    return [line for line in lines if '"send refused"' in line]


def test_an_outage_under_load_and_a_kill_in_it_and_after_it_cost_nothing(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer
) -> None:
    """What is accepted arrives, in order, and nothing is refused but connections to the process that was killed."""
    gateway = start_gateway()
    with Load(gateway.url) as load:
        load.accept_more(50)
        rabbit.stop()
        try:
            load.accept_more(50)
            dependencies = until_status(gateway, "degraded")
            assert (dependencies["store"]["state"], dependencies["broker"]["state"]) == ("up", "down")
            assert "RabbitMQ is not connected" in dependencies["broker"]["last_error"]
            time.sleep(OUTAGE_SECONDS / 2)
            before = spooled.waiting()
            assert before > 0
            gateway.kill()
            gateway.start(ready=False)
            until_status(gateway, "degraded")
            load.accept_more(50)
            assert spooled.waiting() > before
            time.sleep(OUTAGE_SECONDS / 2)
            assert value(gateway, "sms_spool_messages") > 0
            assert value(gateway, "sms_spool_oldest_age_seconds") > 0
        finally:
            rabbit.start()
        most = 0

        def is_moving() -> bool:
            nonlocal most
            now = spooled.waiting()
            most = max(most, now)
            return now < most

        until(is_moving, seconds=PATIENT_SECONDS)
        gateway.kill()
        gateway.start(ready=False)
        load.accept_more(50)
    until_status(gateway, "ready")
    assert spooled.waiting() == 0
    assert refusals_of_publish(gateway) == []
    # A retry waits for the lease of the request that the kill has cut off.
    assert load.codes.keys() <= {"IDEMPOTENCY_IN_PROGRESS", "SERVICE_UNAVAILABLE"}
    assert load.broken > 0
    arrived = spooled.texts()
    sys.stdout.write(
        f"\noutage of {OUTAGE_SECONDS:g} s: {sum(load.accepted)} accepted, {len(arrived)} arrived, of which "
        f"{len(set(arrived))} differ; at most {most} in the spool; {load.broken} requests cut off by kills; "
        f"answers on the way: {load.codes}\n"
    )
    load.agrees_with(arrived)
    assert gateway.stop() == 0


def test_two_workers_share_a_spool_while_rabbitmq_is_blocked(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer
) -> None:
    """By an alarm, as it is when memory is low. What waits is counted once, whichever worker is asked."""
    gateway = start_gateway(workers=2)
    try:
        with Load(gateway.url) as load:
            load.accept_more(50)
            rabbit.ctl("set_vm_memory_high_watermark", "0.000001")
            dependencies = until_status(gateway, "degraded")
            load.accept_more(100)
        until(lambda: value(gateway, "sms_connection_up", dependency="broker") == 0)
        dependencies = until_status(gateway, "degraded")
        assert "has blocked publishing" in dependencies["broker"]["last_error"]
        assert re.match(r"\d+ messages wait, the oldest for", dependencies["spool"]["last_error"])
        waiting = spooled.waiting()
        assert waiting >= 50
        assert {value(gateway, "sms_spool_messages") for _ in range(10)} == {waiting}
        assert value(gateway, "sms_spool_oldest_age_seconds") > 0
        assert value(gateway, "sms_connection_up", dependency="spool") == 2
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    until_status(gateway, "ready")
    assert {value(gateway, "sms_spool_messages") for _ in range(10)} == {0}
    assert {value(gateway, "sms_spool_oldest_age_seconds") for _ in range(10)} == {0}
    spooled_total = value(gateway, "sms_spool_stored_total")
    assert spooled_total == value(gateway, "sms_spool_moved_total") >= waiting
    assert refusals_of_publish(gateway) == []
    assert load.broken == 0
    load.agrees_with(spooled.texts())
    assert gateway.stop() == 0


def test_a_broker_that_hangs_is_passed_by(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer
) -> None:
    """Nothing tells the gateway that it is away: the first sends find out, and no outcome is left unknown."""
    gateway = start_gateway()
    with Load(gateway.url) as load:
        load.accept_more(30)
        with rabbit.paused():
            load.accept_more(100)
            until_status(gateway, "degraded")
    until_status(gateway, "ready")
    assert refusals_of_publish(gateway) == []
    load.agrees_with(spooled.texts())


def test_a_full_queue_is_an_outage(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer
) -> None:
    """What a bounded queue refuses waits in the spool until there is room."""
    gateway = start_gateway()
    name = spooled.backend.queue
    rabbit.ctl("set_policy", name, f"^{name}$", '{"max-length": 5}', "--apply-to", "queues")
    texts = [f"0 {number}" for number in range(40)]
    assert {gateway.send_until_served(text=text).status_code for text in texts} == {202}
    assert spooled.waiting() > 0
    # On a busy machine its refusals may come too late, and the connection is made anew: it is there again soon.
    until(lambda: until_status(gateway, "degraded")["broker"]["state"] == "up", seconds=PATIENT_SECONDS)
    found: list[str] = []

    def all_have_arrived() -> bool:
        found.extend(spooled.texts())
        return len(set(found)) == len(texts)

    # The delivery side makes room, again and again.
    until(all_have_arrived, seconds=PATIENT_SECONDS)
    assert list(dict.fromkeys(found)) == texts
    until_status(gateway, "ready")
    rabbit.ctl("clear_policy", name)


def test_a_full_spool_refuses_and_loses_nothing(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer
) -> None:
    """At the bound it is as without a spool: 503, and nothing charged. A later gateway moves what waits."""
    gateway = start_gateway(ready=False, RABBITMQ_URL=NOWHERE, SPOOL_MAX_MESSAGES="20")
    assert until_status(gateway, "degraded")["spool"]["state"] == "up"
    texts = [f"0 {number}" for number in range(20)]
    assert {gateway.send_until_served(text=text).status_code for text in texts} == {202}
    key = uuid.uuid4().hex
    for client in ("refunded", "refunded", "refunded"):
        answer = gateway.send(client, key, text="0 20")
        assert (answer.status_code, answer.json()["error_code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
    dependencies = until_status(gateway, "unavailable")
    assert dependencies["spool"]["state"] == "full"
    assert "the spool is full: 20 messages wait, 20 may" in dependencies["spool"]["last_error"]
    assert value(gateway, "sms_spool_messages") == spooled.waiting() == 20
    assert len(refusals_of_publish(gateway)) == 3
    assert gateway.stop() == 0

    gateway = start_gateway(ready=False)
    until_status(gateway, "ready")
    accepted = gateway.send_until_served("refunded", key, text="0 20")
    assert accepted.status_code == 202
    assert accepted.headers["ratelimit"].startswith('"daily";r=1;')
    assert spooled.texts() == [*texts, "0 20"]


def test_a_full_disk_freezes_nothing_that_was_accepted(
    spooled: Spooled, start_gateway: StartGateway, rabbit: RabbitServer, tmp_path: Path
) -> None:
    """What it took is moved, in order and once, and forgotten, with the disk as full as before; then it takes more."""
    with small_disk(tmp_path / "disk", mib=4) as disk:
        spooled.path = disk / "spool.db"
        gateway = start_gateway()
        accepted: list[str] = []

        def send_until_refused() -> None:
            for sent in itertools.count():
                if sent == 50:
                    fill(disk)
                text = f"{len(accepted)} {'x' * 1000}"
                if gateway.send(text=text).status_code != 202:
                    return
                accepted.append(text)

        for _ in range(2):
            rabbit.ctl("set_vm_memory_high_watermark", "0.000001")
            try:
                until(lambda: value(gateway, "sms_connection_up", dependency="broker") == 0)
                before = len(accepted)
                send_until_refused()
                assert spooled.waiting() == len(accepted) - before >= 50
            finally:
                rabbit.ctl("set_vm_memory_high_watermark", "0.4")
            until_status(gateway, "ready")
            assert spooled.waiting() == 0
            (disk / "ballast").unlink()
        assert value(gateway, "sms_spool_moved_total") == len(accepted)
        found = [envelope["text"] for envelope in spooled.backend.take_all()]
        assert found == accepted
        assert gateway.stop() == 0


def test_without_a_spool_nothing_has_changed(spooled: Spooled, start_gateway: StartGateway) -> None:
    """Unset is the default: refused, and unready."""
    gateway = start_gateway(ready=False, RABBITMQ_URL=NOWHERE, RABBITMQ_SPOOL="")
    assert until_status(gateway, "unavailable").keys() == {"store", "broker"}
    assert gateway.send().json()["error_code"] == "SERVICE_UNAVAILABLE"
    assert not spooled.path.exists()
