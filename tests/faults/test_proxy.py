"""The proxy does to connections what it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Direction, Proxy
from tests.support.servers import HOST

SHORT_SECONDS = 0.3
LONG_SECONDS = 10.0


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as listener:

        def echo(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=echo, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port) as proxy:
        yield proxy


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through it, on which something has come and gone."""
    with socket.create_connection((HOST, proxy.port), timeout=LONG_SECONDS) as connection:
        assert echoed(connection, b"first") == b"first"
        yield connection


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(65536)


@pytest.mark.parametrize("direction", [Direction.TO_SERVER, Direction.TO_CLIENT, Direction.BOTH])
def test_a_stall_holds_up_what_is_sent_until_it_is_healed(
    proxy: Proxy, connection: socket.socket, direction: Direction
) -> None:
    proxy.stall(direction)
    connection.settimeout(SHORT_SECONDS)
    with pytest.raises(TimeoutError):
        echoed(connection, b"held up")
    connection.settimeout(LONG_SECONDS)
    proxy.heal()
    assert connection.recv(65536) == b"held up"


def test_what_was_stalled_arrives_even_after_its_sender_has_left(echo_port: int) -> None:
    with socket.create_server((HOST, 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:
        with socket.create_connection((HOST, proxy.port), timeout=LONG_SECONDS) as connection:
            server, _ = listener.accept()
            proxy.stall()
            connection.sendall(b"late")
        proxy.heal()
        with server:
            server.settimeout(LONG_SECONDS)
            assert server.recv(65536) == b"late"
            assert server.recv(65536) == b""


def test_a_drip_takes_its_time(proxy: Proxy, connection: socket.socket) -> None:
    proxy.drip(100, Direction.TO_CLIENT)
    began = time.monotonic()
    connection.sendall(b"x" * 50)
    received = b""
    while len(received) < 50:
        received += connection.recv(65536)
    assert time.monotonic() - began > SHORT_SECONDS


def test_a_cut_is_a_reset(proxy: Proxy, connection: socket.socket) -> None:
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(65536)


def test_after_a_cut_one_may_connect_again(proxy: Proxy, connection: socket.socket) -> None:
    proxy.cut()
    with socket.create_connection((HOST, proxy.port), timeout=LONG_SECONDS) as another:
        assert echoed(another, b"second") == b"second"


def test_half_closed_to_the_client_it_hears_the_end(proxy: Proxy, connection: socket.socket) -> None:
    proxy.half_close(Direction.TO_CLIENT)
    assert connection.recv(65536) == b""
    connection.sendall(b"this way is open")


def test_refused_connections_are_refused_and_others_stay(proxy: Proxy, connection: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, proxy.port), timeout=LONG_SECONDS)
    assert echoed(connection, b"second") == b"second"
    proxy.heal()
    with socket.create_connection((HOST, proxy.port), timeout=LONG_SECONDS) as another:
        assert echoed(another, b"third") == b"third"
