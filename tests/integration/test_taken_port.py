"""An address that nobody can listen on, told as people can use it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.integration.test_command_line import run
from tests.support.gateways import Gateway


def serve(tmp_path: Path, workers: int, host: str, port: int) -> list[str]:
    """The one line with which a gateway ends that cannot listen; it tells nothing else."""
    url = f"embedded:{tmp_path / 'gateway.db'}"
    result = run(
        tmp_path,
        *("serve", "--workers", str(workers)),
        REDIS_URL=url,
        RABBITMQ_URL=url,
        SERVER_A_HOST=host,
        SERVER_A_PORT=str(port),
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    assert not [line for line in result.stdout.splitlines() if '"level":"ERROR"' in line]
    return result.stderr.splitlines()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - nothing serves
def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path, workers: int, host: str) -> None:
    """Another program listens there: one line says so and shows how to take another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = serve(tmp_path, workers, host, port)
        assert line == (
            f"error: SERVER_A_PORT: cannot listen on {host}:{port}: another program does already. "
            "Stop it, or choose another port: SERVER_A_PORT=8000"
        )


def test_a_port_is_free_again_when_its_gateway_has_ended(tmp_path: Path) -> None:
    """What its connections have left behind keeps nobody from starting it again at once."""
    url = f"embedded:{tmp_path / 'gateway.db'}"
    gateway = Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url})
    for _ in range(2):
        gateway.start()
        assert gateway.send().status_code == 202
        assert gateway.stop() == 0
    gateway.http.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "it is no address of this machine. Write one that is, or 0.0.0.0 for all"),
        ("no-such-host.invalid", "Write an IP address of this machine, or 0.0.0.0 for all"),
        ("sms_key-in-the-wrong-variable", "Write an IP address of this machine, or 0.0.0.0 for all"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_told(tmp_path: Path, host: str, reason: str) -> None:
    """The variable is that of the host, not of the port. A name may be a secret in the wrong place."""
    (line,) = serve(tmp_path, 1, host, 8000)
    place = f"{host}:8000" if host == "192.0.2.1" else "port 8000 of the host that SERVER_A_HOST names"
    assert line.startswith(f"error: SERVER_A_HOST: cannot listen on {place}: ")
    assert line.endswith(reason)
