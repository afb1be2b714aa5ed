"""The image by itself: who it runs as, how it ends, where it may write, and what it says of a mistake."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.docker.containers import HARDENED, Container
from tests.docker.engine import docker, run
from tests.support.gateways import NUMBER, SEND, TEXT, client_config, key_of
from tests.support.servers import free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

PROVIDERS = json.dumps({"alpha": {}})
EMBEDDED = "embedded:gateway.db"


@dataclass
class Embedded:
    """A gateway that keeps everything in a file on a volume, hardened as in compose.yml."""

    container: Container
    url: str
    port: int

    def send(self, key: str) -> httpx.Response:
        headers = {"API-Key": key_of("acme"), "Idempotency-Key": key}
        return httpx.post(self.url + SEND, json={"to": NUMBER, "text": TEXT}, headers=headers, timeout=30)

    def waiting(self) -> list[str]:
        """The tracking_ids of what is stored."""
        lines = self.container.execute("sms-gateway", "messages").splitlines()
        return [json.loads(line)["tracking_id"] for line in lines]

    def reports(self, sample: str) -> bool:
        """Whether this line is among its metrics."""
        return sample in httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines()


@pytest.fixture
def gateway(request: pytest.FixtureRequest, image: str, container: Container) -> Iterator[Embedded]:
    """Running and healthy, with as many workers as the test's parameter says."""
    port, volume = free_port(), f"{container.name}-data"
    variables = {
        "REDIS_URL": EMBEDDED,
        "RABBITMQ_URL": EMBEDDED,
        "CLIENT_CONFIG": json.dumps(client_config()),
        "PROVIDERS_CONFIG": PROVIDERS,
    }
    docker(
        *("run", "--detach", "--name", container.name, *HARDENED),
        *("--publish", f"127.0.0.1:{port}:8000", "--volume", f"{volume}:/var/lib/sms-gateway"),
        *(f"--env={name}={value}" for name, value in variables.items()),
        *(image, "serve", "--workers", str(getattr(request, "param", 1))),
    )
    try:
        container.wait_until_healthy()
        yield Embedded(container, f"http://127.0.0.1:{port}", port)
    finally:
        container.remove()
        docker("volume", "rm", volume)


def test_a_mistake_in_the_configuration_ends_it_with_exit_code_2(image: str) -> None:
    done = run(["docker", "run", "--rm", "--env", f"PROVIDERS_CONFIG={PROVIDERS}", image], check=False)
    assert done.returncode == 2
    for mistake in ("error: REDIS_URL: is not set", "error: RABBITMQ_URL: is not set", "nothing was started"):
        assert mistake in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_not_root_and_may_do_and_write_nothing_but_its_own(gateway: Embedded) -> None:
    inside = gateway.container
    assert inside.execute("id", "-u") == "10001"
    status = dict(line.split(":\t") for line in inside.execute("cat", "/proc/1/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    may_write = {place: inside.try_to("touch", f"{place}/x") for place in ("/tmp", "/opt", "/etc", ".")}  # noqa: S108 - the container's own
    assert may_write == {"/tmp": True, "/opt": False, "/etc": False, ".": True}  # noqa: S108
    assert not inside.try_to("touch", "/opt/sms-gateway/bin/x")


def test_there_is_nothing_to_install_with(gateway: Embedded) -> None:
    assert gateway.container.try_to("python", "-c", "import gateway, uvloop")
    assert not gateway.container.try_to("python", "-m", "pip", "--version")


@pytest.mark.parametrize("gateway", [1, 2], indirect=True)
def test_what_is_on_the_volume_outlives_a_kill(gateway: Embedded) -> None:
    tracking_id = gateway.send("k").json()["tracking_id"]
    docker("kill", gateway.container.name)
    assert gateway.container.state["ExitCode"] == 137
    docker("start", gateway.container.name)
    gateway.container.wait_until_healthy()
    assert gateway.waiting() == [tracking_id]
    assert gateway.send("k").headers["Idempotent-Replayed"] == "true"
    assert gateway.reports("sms_send_requests_total 1.0")


@pytest.mark.parametrize("gateway", [1, 2], indirect=True)
def test_sigterm_reaches_it_and_what_has_begun_is_answered(gateway: Embedded) -> None:
    body = json.dumps({"to": NUMBER, "text": TEXT}).encode()
    head = (
        f"POST {SEND} HTTP/1.1\r\nHost: gateway\r\nAPI-Key: {key_of('acme')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    codes: list[int] = []
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as begun:
        begun.sendall(head + body[:-1])
        until(lambda: gateway.reports("sms_requests_in_flight 1.0"))
        stopping = threading.Thread(target=lambda: codes.append(gateway.container.stop(20)))
        stopping.start()
        until(lambda: "Shutting down" in gateway.container.log(), every_seconds=0.1)
        begun.sendall(body[-1:])
        answer = begun.recv(65536)
        stopping.join()
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert codes == [0]
    assert "Traceback" not in gateway.container.log()
