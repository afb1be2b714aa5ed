"""The services of compose.yml together: up, a send, each restarted under load, and down with the data kept."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.cluster.load import Load, Message
from tests.docker.engine import docker, run
from tests.docker.stack import QUEUE, ROOT, SERVICES, Stack
from tests.support.broker import consume
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

# In this order: each leaves the services running and healthy.


class PatientLoad(Load):
    """Senders to whom a lost connection is one more reason to try again."""

    def _send(self, http: httpx.Client, message: Message) -> bool:
        try:
            return super()._send(http, message)
        except httpx.TransportError:
            return False


def on_the_queue(stack: Stack) -> list[str]:
    """Take everything off the queue; returns the tracking_ids."""
    return [json.loads(body)["tracking_id"] for _, body in asyncio.run(consume(stack.amqp_url, QUEUE))]


def test_compose_takes_the_file_as_it_is(stack: Stack) -> None:
    if stack.engine.is_compose_v1:
        pytest.skip("docker-compose 1 does not know the top-level name of compose.yml")
    files = ["--file", str(ROOT / "compose.yml"), "--env-file", str(ROOT / ".env.example")]
    run([*stack.engine.compose, *files, "config", "--quiet"])


def test_without_passwords_and_clients_it_says_what_to_do(stack: Stack) -> None:
    done = run([*stack.engine.compose, "--file", str(stack.file), "config"], check=False)
    assert done.returncode != 0
    assert "cp .env.example .env" in done.stderr


def test_all_services_become_healthy_and_the_gateway_is_hardened(stack: Stack) -> None:
    assert stack.is_ready()
    inside = stack["gateway"]
    assert inside.execute("id", "-u") == "10001"
    status = inside.execute("cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status
    assert not inside.try_to("touch", "/var/lib/sms-gateway/x")
    assert inside.try_to("touch", "/tmp/x")  # noqa: S108 - the container's own


def test_a_send_is_on_the_queue(stack: Stack) -> None:
    answer = stack.send("one")
    assert answer.status_code == 202
    assert on_the_queue(stack) == [answer.json()["tracking_id"]]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_service_restarts_under_load_and_nothing_accepted_is_lost(
    stack: Stack, service: str, how: str
) -> None:
    container = stack[service]
    before = container.starts
    with PatientLoad(stack) as load:
        load.wait_for(50)
        if how == "kill":
            docker("kill", container.name)
            docker("start", container.name)
        else:
            docker("restart", container.name)
        assert container.starts != before
        load.wait_for(50)
        container.wait_until_healthy()
        until(stack.is_ready, passing_over=httpx.TransportError)
        load.wait_for(50)
    load.check(stack.amqp_url, QUEUE)


def test_down_ends_the_gateway_in_its_grace_and_keeps_what_was_accepted(
    stack: Stack, summary: list[str]
) -> None:
    tracking_id = stack.send("kept").json()["tracking_id"]
    containers = {service: stack[service] for service in SERVICES}
    stack.compose("stop")
    ended = {service: container.state["ExitCode"] for service, container in containers.items()}
    assert ended["gateway"] == 0
    # Those of others are told only: what was accepted is there all the same.
    summary += [f"{stack.images[name]}: exit code {code} when it was stopped" for name, code in ended.items()]
    stack.compose("down")
    assert run(["docker", "inspect", containers["gateway"].name], check=False).returncode != 0
    assert stack.volumes() == {f"{stack.project}_redis", f"{stack.project}_rabbitmq"}

    stack.up()
    again = stack.send("kept")
    assert (again.status_code, again.json()["tracking_id"]) == (202, tracking_id)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert on_the_queue(stack) == [tracking_id]
