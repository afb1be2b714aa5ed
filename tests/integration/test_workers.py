"""Several workers: all serve what the supervisor has read, lose nothing to a signal, and end with the supervisor."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateways import NUMBER, SEND, TEXT, Gateway, key_of, raw_connection, read_answer
from tests.support.scrape import value
from tests.support.servers import accepts
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
BODY = json.dumps({"to": NUMBER, "text": TEXT}).encode()
HEAD = (
    f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAPI-Key: {key_of('acme')}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode()

# An operator's own stage that cannot start while a file is there.
BREAKABLE = """
from pathlib import Path

from pipeline.stage import Stage


class Breakable(Stage):
    def __init__(self, app, path):
        super().__init__(app)
        if Path(path).exists():
            raise RuntimeError("s3cr3t words of a library")

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)
"""

Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts gateways on the embedded file, configured by ``gateway.toml``; their temporary folder is ``tmp``."""
    (tmp_path / "tmp").mkdir()
    running: list[Gateway] = []

    def started(workers: int = 2, **environ: str) -> Gateway:
        url = f"embedded:{tmp_path / 'gateway.db'}"
        own = {"REDIS_URL": url, "RABBITMQ_URL": url, "TMPDIR": str(tmp_path / "tmp"), **environ}
        gateway = Gateway(tmp_path, own, workers)
        # In a process group of its own, as a shell starts it: a test sends signals to the whole of it.
        gateway.command = ["setsid", *gateway.command]
        running.append(gateway)
        gateway.start()
        until(lambda: len(workers_of(gateway)) == workers, "all workers")
        return gateway

    yield started
    for gateway in running:
        gateway.__exit__()


def workers_of(gateway: Gateway) -> list[int]:
    """The process ids of those that have served, in the order in which they began."""
    serving = [line for line in gateway.log_lines() if line["message"] == "serving"]
    return [int(line["instance_id"].rsplit("-", 2)[1]) for line in serving]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def new_connection_statuses(gateway: Gateway, path: str, times: int = 20) -> set[int]:
    """The statuses of so many requests, each on a connection of its own, so that every worker gets some."""
    return {httpx.get(f"{gateway.url}{path}").status_code for _ in range(times)}


# The configuration.


@pytest.mark.parametrize("edited", ["pipeline = []", "this is no TOML", None])
def test_a_replaced_worker_serves_what_the_others_serve(
    start: Start, tmp_path: Path, edited: str | None
) -> None:
    """An edit that waits for a restart, a broken file, and none at all: all three change nothing before it."""
    file = tmp_path / "gateway.toml"
    file.write_text('[providers.only]\naliases = ["one"]\n', encoding="utf-8")
    gateway = start(GATEWAY_CONFIG=str(file), PROVIDERS_CONFIG="")
    if edited is None:
        file.unlink()
    else:
        file.write_text(edited, encoding="utf-8")
    first, second = workers_of(gateway)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(workers_of(gateway)) == 3, "a third worker")
    os.kill(second, signal.SIGKILL)
    until(lambda: len(workers_of(gateway)) == 4, "a fourth worker")
    answers = [
        httpx.post(
            f"{gateway.url}{SEND}",
            json={"to": NUMBER, "text": TEXT, "providers": ["one"]},
            headers={"API-Key": key_of("acme")},
        )
        for _ in range(20)
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log_text()


def test_nothing_is_handed_to_workers_where_others_can_read_it(start: Start) -> None:
    """No command line and no environment of a worker holds more than that of the process that was started."""
    gateway = start()
    assert gateway.process is not None
    of_supervisor = [
        Path(f"/proc/{gateway.process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")
    ]
    for pid in workers_of(gateway):
        of_worker = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        assert of_worker == of_supervisor


def breakable(start: Start, tmp_path: Path, workers: int = 2) -> Gateway:
    """A gateway whose workers cannot start once ``broken`` is there."""
    (tmp_path / "breakable.py").write_text(BREAKABLE, encoding="utf-8")
    file = tmp_path / "gateway.toml"
    stages = '"auth", "breakable:Breakable", "idempotency", "validation", "provider_gate", "quota"'
    file.write_text(
        f'pipeline = [{stages}]\n[stage."breakable:Breakable"]\npath = "{tmp_path / "broken"}"\n',
        encoding="utf-8",
    )
    return start(workers, GATEWAY_CONFIG=str(file), PYTHONPATH=f"{ROOT}:{tmp_path}")


def told(gateway: Gateway, part: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log_lines() if part in line["message"]]


def test_a_worker_that_cannot_start_is_tried_again_with_patience(start: Start, tmp_path: Path) -> None:
    """Each attempt is one line with the next one's pause; the other worker serves; once mended, both serve."""
    gateway = breakable(start, tmp_path)
    (tmp_path / "broken").touch()
    os.kill(workers_of(gateway)[0], signal.SIGKILL)
    until(lambda: len(told(gateway, "before it served")) >= 3, "three attempts")
    assert {line["level"] for line in told(gateway, "before it served")} == {"ERROR"}
    assert new_connection_statuses(gateway, "/healthz") == {200}
    assert len(told(gateway, "before it served")) < 8
    (tmp_path / "broken").unlink()
    until(lambda: len(workers_of(gateway)) == 3, "a third worker")
    assert gateway.stop() == 0
    assert "s3cr3t" not in gateway.log_text()


def test_a_gateway_of_which_no_worker_can_start_ends_and_says_why(start: Start, tmp_path: Path) -> None:
    """Meanwhile no client hangs; the exit code is not 0; every line is of the log's form."""
    gateway = breakable(start, tmp_path)
    assert gateway.process is not None
    (tmp_path / "broken").touch()
    started = time.monotonic()
    pids = workers_of(gateway)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_running, pids)), "the end of the workers")
    time.sleep(0.2)
    while gateway.process.poll() is None:
        # Long before the time-out: none waits for a worker that will not come.
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            httpx.get(f"{gateway.url}/healthz", timeout=20)
        time.sleep(0.1)
    assert gateway.process.wait(20) == 3
    assert time.monotonic() - started < 20
    lines = [json.loads(line) for line in gateway.log_text().splitlines()]
    assert "no worker can start" in lines[-1]["message"]
    assert lines[-1]["level"] == "CRITICAL"


LISTENING = """
import socket

from pipeline.stage import Stage


class Listening(Stage):
    def __init__(self, app, port):
        super().__init__(app)
        self.taken = socket.create_server(("127.0.0.1", port))

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)
"""


def test_a_gateway_whose_port_is_taken_while_it_starts_ends_and_says_so(tmp_path: Path) -> None:
    """As of two that are started at once: each looks whether it can listen, and nobody listens yet."""
    (tmp_path / "listening.py").write_text(LISTENING, encoding="utf-8")
    url = f"embedded:{tmp_path / 'gateway.db'}"
    gateway = Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url}, workers=2)
    stages = '"auth", "listening:Listening", "idempotency", "validation", "provider_gate", "quota"'
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'pipeline = [{stages}]\n[stage."listening:Listening"]\nport = {gateway.port}\n', encoding="utf-8"
    )
    gateway.environ |= {"GATEWAY_CONFIG": str(file), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    try:
        with pytest.raises(AssertionError, match="did not become"):
            gateway.start()
        assert gateway.process is not None
        assert gateway.process.poll() == 3
    finally:
        gateway.__exit__()
    assert f"SERVER_A_PORT: cannot listen on 127.0.0.1:{gateway.port}" in gateway.log_text()
    assert "Traceback" not in gateway.log_text()


# Signals.


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("whom", ["the first process", "its group", "each worker"])
def test_sighup_ends_nobody_and_no_request(start: Start, workers: int, whom: str) -> None:
    """Ten sends in flight are answered, the same processes serve on, and the log says what SIGHUP does not do."""
    gateway = start(workers)
    assert gateway.process is not None
    before = workers_of(gateway)
    with ExitStack() as stack:
        connections = [stack.enter_context(raw_connection(gateway)) for _ in range(10)]
        for connection in connections:
            connection.sendall(HEAD + BODY[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 10, "ten in flight")
        match whom:
            case "its group":
                os.killpg(gateway.process.pid, signal.SIGHUP)
            case "each worker":
                for pid in before:
                    os.kill(pid, signal.SIGHUP)
            case _:
                gateway.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        for connection in connections:
            connection.sendall(BODY[5:])
            # Ten at once on a busy machine: a call of the store may miss its 250 ms, and that is an answer too.
            assert read_answer(connection)[0] in {202, 503}
    assert workers_of(gateway) == before
    if whom != "each worker" or workers == 1:
        (line,) = told(gateway, "SIGHUP")
        assert (line["level"], "Restart" in line["message"]) == ("WARNING", True)
    assert gateway.stop() == 0


def test_ctrl_c_that_comes_after_the_supervisor_s_word_cuts_nothing_off(start: Start) -> None:
    """A terminal tells all processes, and which of the two a worker hears of first is chance."""
    gateway = start()
    with raw_connection(gateway) as connection:
        connection.sendall(HEAD + BODY[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        for worker in workers_of(gateway):
            os.kill(worker, signal.SIGTERM)
            time.sleep(0.1)
            os.kill(worker, signal.SIGINT)
        time.sleep(0.1)
        connection.sendall(BODY[5:])
        assert read_answer(connection)[0] == 202


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_ends_it_in_good_order(start: Start, number: int) -> None:
    """As Ctrl-C does: what is in flight is answered, nobody is started anew, and the exit code is 0."""
    gateway = start()
    assert gateway.process is not None
    with raw_connection(gateway) as connection:
        connection.sendall(HEAD + BODY[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        os.killpg(gateway.process.pid, number)
        until(lambda: not accepts(gateway.port), "refused connections", seconds=5)
        connection.sendall(BODY[5:])
        assert read_answer(connection)[0] == 202
    assert gateway.process.wait(15) == 0
    assert "Traceback" not in gateway.log_text()
    assert len([line for line in gateway.log_text().splitlines() if '"serving"' in line]) == 2


BLOCKING = """
import time

from pipeline.stage import Stage


class Blocking(Stage):
    async def __call__(self, scope, receive, send):
        time.sleep(60)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_hangs_is_ended_by_force(start: Start, tmp_path: Path, workers: int) -> None:
    """A stage that blocks the event loop keeps nobody from the 15 s; the exit code says that not all was answered."""
    (tmp_path / "blocking.py").write_text(BLOCKING, encoding="utf-8")
    stages = "auth,blocking:Blocking,idempotency,validation,provider_gate,quota"
    gateway = start(workers, PIPELINE=stages, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert gateway.process is not None
    with raw_connection(gateway) as connection:
        connection.sendall(HEAD + BODY)
        time.sleep(1)
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 4
        assert time.monotonic() - started < 15


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    """One that has said nothing for half a minute (SIGSTOP) is killed, and another takes its place."""
    gateway = start()
    first = workers_of(gateway)[0]
    os.kill(first, signal.SIGSTOP)
    # Its queue of connections is that of the other, but it may have taken the test's own.
    until(
        lambda: (
            '"serving"' in gateway.log_text().split("has said nothing")[-1]
            and "has said nothing" in gateway.log_text()
        ),
        "a third worker",
        seconds=60,
        every_seconds=0.5,
    )
    assert not is_running(first)
    assert gateway.stop() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are Linux's")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_can_start_no_thread_ends_when_it_is_told_to(start: Start, workers: int) -> None:
    """What bounds its end is a thread, of which the system may have none left."""
    gateway = start(workers)
    assert gateway.process is not None
    for pid in set(workers_of(gateway)):
        # There is room left for what it needs, and none for the stack of a thread.
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + (4 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
    with raw_connection(gateway) as connection:
        connection.sendall(HEAD + BODY[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(BODY[5:])
        assert read_answer(connection)[0] == 202
    gateway.process.wait(5)


# The supervisor's end.


def test_a_gateway_leaves_nothing_in_the_temporary_folder(start: Start, tmp_path: Path) -> None:
    """Neither while it runs, where a cleaner could take it, nor when it is killed."""
    gateway = start()
    assert gateway.send().status_code == 202
    until(lambda: value(gateway, "sms_send_requests_total") == 1)
    assert list((tmp_path / "tmp").iterdir()) == []
    pids = workers_of(gateway)
    gateway.kill()
    until(lambda: not any(map(is_running, pids)), "the end of the workers")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_workers_whose_supervisor_is_killed_answer_and_end(start: Start) -> None:
    """What is in flight is answered first."""
    gateway = start()
    pids = workers_of(gateway)
    with raw_connection(gateway) as connection:
        connection.sendall(HEAD + BODY[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        gateway.kill()
        until(lambda: not accepts(gateway.port), "refused connections")
        connection.sendall(BODY[5:])
        assert read_answer(connection)[0] == 202
    until(lambda: not any(map(is_running, pids)), "the end of the workers")


def test_the_live_gauges_of_a_killed_worker_are_gone_and_its_counts_stay(
    start: Start, tmp_path: Path
) -> None:
    """Also while nobody can take its place."""
    gateway = breakable(start, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: httpx.post(f"{gateway.url}/", timeout=30).status_code, range(8)))
        statuses += list(pool.map(lambda _: gateway.send().status_code, range(40)))
    assert set(statuses) == {404, 202}
    until(lambda: value(gateway, "sms_send_requests_total") == 40, "the sum of both")
    until(lambda: value(gateway, "sms_connection_up", dependency="store") == 2, "both connections")
    (tmp_path / "broken").touch()
    os.kill(workers_of(gateway)[0], signal.SIGKILL)

    def comes_to(name: str, expected: float, **labels: str) -> None:
        # Of the connections that are kept alive some were the killed worker's.
        until(
            lambda: value(gateway, name, **labels) == expected,
            f"{name} {expected:g}",
            passing_over=httpx.TransportError,
        )

    comes_to("sms_connection_up", 1, dependency="store")
    comes_to("sms_send_requests_total", 40)
    (tmp_path / "broken").unlink()
    comes_to("sms_connection_up", 2, dependency="store")
    comes_to("sms_send_requests_total", 40)
    assert gateway.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_closed_descriptors_are_nobody_elses(tmp_path: Path, workers: int) -> None:
    """``2>&-``: neither a file nor a connection gets the number that tracebacks and C libraries write to."""
    # No embedded file: SQLite keeps its own files from these numbers, and fills them for everybody.
    gateway = Gateway(
        tmp_path, {"REDIS_URL": "redis://127.0.0.1:1/0", "RABBITMQ_URL": "amqp://127.0.0.1:1/"}, workers
    )
    gateway.command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *gateway.command]
    gateway.start(ready=False)
    assert gateway.process is not None
    children = (
        Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text("ascii").split()
    )
    for pid in (gateway.process.pid, *children):
        open_files = [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)]
        assert open_files[0] == open_files[2] == "/dev/null"
        assert open_files[1].startswith("pipe:")
    assert gateway.stop() == 0
    gateway.http.close()
