"""Thousands of idle and dripping connections beside normal senders."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.http.limits import OWN_FILES
from tests.support.gateways import NUMBER, SEND, TEXT, Gateway, key_of, raw_connection, read_answer

IDLE, DRIPPING = 2000, 200
_BODY = json.dumps({"to": NUMBER, "text": TEXT}).encode()


@pytest.mark.quiet
@pytest.mark.timeout(300)
def test_idle_and_dripping_connections_do_not_slow_down_the_others(gateway: Gateway) -> None:
    """With 2,000 idle and 200 dripping connections open a sender's p99 is at most twice its usual one.

    The best of several rounds each is compared, with some milliseconds for the machine, which other work shares.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    usual = min(p99_ms(gateway) for _ in range(3))
    with connections(gateway, IDLE) as idle, connections(gateway, DRIPPING) as dripping, drip(dripping):
        assert all(is_open(connection) for connection in idle[:: IDLE // 20])
        crowded = min(p99_ms(gateway) for _ in range(3))
    assert crowded <= 2 * usual + 10, (usual, crowded)


def p99_ms(gateway: Gateway, sends: int = 200) -> float:
    """The 99th percentile of the time that a send takes, of one sender that sends again and again."""
    times = []
    for _ in range(sends):
        started = time.perf_counter()
        assert gateway.send().status_code == 202
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[int(sends * 0.99) - 1]


@contextlib.contextmanager
def connections(gateway: Gateway, count: int) -> Iterator[list[socket.socket]]:
    """So many connections on each of which one request has been answered: they idle, and may be used again."""
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 20))
            for _ in range(count)
        ]
        for connection in opened:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in opened:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        yield opened


@contextlib.contextmanager
def drip(dripping: list[socket.socket]) -> Iterator[None]:
    """Send on each connection a valid request whose body comes a byte a second."""
    head = (
        f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAPI-Key: {key_of('acme')}\r\nContent-Type: application/json\r\n"
    )
    for connection in dripping:
        connection.sendall(f"{head}Content-Length: {len(_BODY)}\r\n\r\n".encode())
    done = threading.Event()

    def run() -> None:
        for position in range(len(_BODY)):
            for connection in dripping:
                with contextlib.suppress(OSError):
                    connection.send(_BODY[position : position + 1])
            if done.wait(1):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_open(connection: socket.socket) -> bool:
    """Whether the other side has not closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    finally:
        connection.settimeout(20)


def test_a_connection_too_many_is_counted(tmp_path: Path) -> None:
    """It is refused before any request, so that no other metric shows it."""
    url = f"embedded:{tmp_path / 'gateway.db'}"
    gateway = Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url})
    few = f"ulimit -n {OWN_FILES + 4}"
    gateway.command = ["/bin/sh", "-c", f'{few} && exec "$@"', "sh", *gateway.command]
    with gateway, connections(gateway, 3):
        for _ in range(2):
            with raw_connection(gateway) as refused:
                assert read_answer(refused)[0] == 503
        assert "sms_connections_refused_total 2.0" in gateway.http.get("/metrics").text.splitlines()
