"""What operators rely on: health, metrics, logs, workers, a clean end, and secrets that stay secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.config.parsers import EMBEDDED
from tests.support.gateways import (
    CLIENTS,
    KEY_TAIL,
    NUMBER,
    SEND,
    TEXT,
    Backend,
    Gateway,
    key_of,
    raw_connection,
    read_answer,
)
from tests.support.needs import on_embedded, on_servers
from tests.support.scrape import samples, value
from tests.support.servers import RabbitServer, RedisServer, accepts
from tests.support.waiting import until

StartGateway = Callable[..., Gateway]


def head_of(length: int, *headers: str) -> bytes:
    """The head of a valid send whose body has this length, with more headers."""
    lines = (
        f"POST {SEND} HTTP/1.1",
        "Host: x",
        f"API-Key: {key_of('acme')}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *headers,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


# Health.


@on_embedded
def test_liveness_asks_nobody(start_gateway: StartGateway) -> None:
    """``/healthz`` is 200 although neither the store nor the broker is there; ``/readyz`` names both and is 503."""
    gateway = start_gateway(
        ready=False, REDIS_URL="redis://127.0.0.1:1/0", RABBITMQ_URL="amqp://u:hidden@127.0.0.1:1/"
    )
    assert gateway.http.get("/healthz").status_code == 200
    started = time.monotonic()
    answer = gateway.http.get("/readyz")
    assert time.monotonic() - started < 2
    assert answer.status_code == 503
    report = answer.json()
    assert report["status"] == "unavailable"
    assert report["dependencies"].keys() == {"store", "broker"}
    for dependency in report["dependencies"].values():
        assert dependency["state"] == "down"
        assert dependency["last_error"]
        assert dependency["latency_ms"] >= 0
    assert "hidden" not in answer.text + gateway.log_text()


def test_readiness_names_each_dependency(gateway: Gateway) -> None:
    """When both answer, the report says so, with the time it took."""
    report = gateway.http.get("/readyz").json()
    assert report["status"] == "ready"
    assert [dependency["state"] for dependency in report["dependencies"].values()] == ["up", "up"]


def test_a_send_without_a_store_is_refused_at_once_and_leaves_nothing(
    start_gateway: StartGateway, own_backend: Backend
) -> None:
    """Nothing to connect to, where the broker takes messages: 503 with Retry-After, and nothing on the queue."""
    gateway = start_gateway(ready=False, REDIS_URL="redis://127.0.0.1:1/0")
    until(lambda: value(gateway, "sms_connection_up", dependency="broker") == 1, "the broker")
    for key in (None, uuid.uuid4().hex):
        took_seconds = []
        # The best of three: others use the machine.
        for _ in range(3):
            started = time.monotonic()
            answer = gateway.send(key=key)
            took_seconds.append(time.monotonic() - started)
            assert (answer.status_code, answer.json()["error_code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
        assert min(took_seconds) < 0.1
    assert own_backend.take_all() == []


@on_servers
@pytest.mark.parametrize("with_key", [False, True])
def test_a_store_that_hangs_refuses_a_send_within_a_second(
    start_gateway: StartGateway, redis_server: RedisServer, *, with_key: bool
) -> None:
    """Nothing tells that Redis is away (SIGSTOP): the first send finds out, and waits no longer than is promised."""
    gateway = start_gateway()
    took_seconds = []
    for _ in range(3):
        with redis_server.paused():
            started = time.monotonic()
            answer = gateway.send(key=uuid.uuid4().hex if with_key else None)
            took_seconds.append(time.monotonic() - started)
        assert (answer.status_code, answer.json()["error_code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        gateway.wait("/readyz")
    # The best of three: others use the machine.
    assert min(took_seconds) < 1


def test_a_broker_that_is_down_gives_the_quota_back(start_gateway: StartGateway) -> None:
    """A refusal of the broker's leaves the quota as it was, with and without a key, and the key free; and soon."""
    gateway = start_gateway(ready=False, RABBITMQ_URL="amqp://127.0.0.1:1/")
    until(lambda: value(gateway, "sms_connection_up", dependency="store") == 1, "the store")
    took_seconds = []
    for key in (None, None, "free", "free", None):
        started = time.monotonic()
        answer = gateway.send("refunded", key)
        took_seconds.append(time.monotonic() - started)
        assert answer.json()["error_code"] == "SERVICE_UNAVAILABLE"
        assert answer.headers["ratelimit"].startswith('"daily";r=2;')
        assert "idempotent-replayed" not in answer.headers
    # What the contract promises of a broker that is known to be down; the best of five: others use the machine.
    assert min(took_seconds) < 0.1


def test_without_the_store_a_stage_can_be_told_to_allow(
    start_gateway: StartGateway, tmp_path: Path, own_backend: Backend
) -> None:
    """``on_store_error = "allow"`` serves without idempotency and quota, logs it and counts it."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[stage.idempotency]\non_store_error = "allow"\n[stage.quota]\non_store_error = "allow"\n'
    )
    gateway = start_gateway(ready=False, REDIS_URL="redis://127.0.0.1:1/0", GATEWAY_CONFIG=str(config))
    key = uuid.uuid4().hex
    until(lambda: gateway.send(key=key).status_code == 202, "a send that is served")
    answer = gateway.send(key=key)
    again = gateway.send(key=key)
    # The store forgot, the derivation did not: the delivery side drops the second one.
    assert again.json()["tracking_id"] == answer.json()["tracking_id"]
    assert value(gateway, "sms_store_passed_over_total", stage="idempotency", operation="begin") >= 2
    assert value(gateway, "sms_store_passed_over_total", stage="quota", operation="take") >= 2
    assert any(line["level"] == "WARNING" and line.get("stage") == "quota" for line in gateway.log_lines())


# Metrics.

CONTRACT_METRICS = {
    "sms_providers_config_total": set(),
    "sms_provider_active": {"provider"},
    "sms_provider_operational": {"provider"},
    "sms_request_rejected_unknown_provider_total": {"client"},
    "sms_request_rejected_provider_disabled_total": {"client", "provider"},
    "sms_request_rejected_no_provider_available_total": {"client"},
    "sms_send_requests_total": set(),
    "sms_send_request_latency_seconds_count": set(),
    "sms_send_request_success_total": set(),
    "sms_send_request_error_total": set(),
}


def test_the_metrics_of_the_contract_are_there_by_name_and_label(start_gateway: StartGateway) -> None:
    """After one request of each kind every metric has moved by exactly that."""
    gateway = start_gateway()
    gateway.send()
    gateway.send(providers=["nobody"])
    gateway.send(providers=["off", "down"])
    gateway.send(None)
    found = samples(gateway)
    for name, labels in CONTRACT_METRICS.items():
        if name == "sms_request_rejected_no_provider_available_total":
            assert f"# TYPE {name} counter" in gateway.http.get("/metrics").text
            continue
        matching = [dict(pairs) for sample, pairs in found if sample == name]
        assert matching, name
        assert all(pairs.keys() == labels for pairs in matching), name
    assert value(gateway, "sms_providers_config_total") == 4
    assert value(gateway, "sms_provider_active", provider="off") == 0
    assert value(gateway, "sms_provider_active", provider="down") == 1
    assert value(gateway, "sms_provider_operational", provider="down") == 0
    assert value(gateway, "sms_request_rejected_unknown_provider_total", client="acme") == 1
    assert value(gateway, "sms_request_rejected_provider_disabled_total", client="acme", provider="off") == 1
    assert value(gateway, "sms_request_rejected_provider_disabled_total", client="acme", provider="down") == 1
    assert value(gateway, "sms_send_requests_total") == 4
    assert value(gateway, "sms_send_request_success_total") == 1
    assert value(gateway, "sms_send_request_error_total") == 3
    assert value(gateway, "sms_send_request_latency_seconds_count") == 4
    assert value(gateway, "sms_stage_refusals_total", stage="auth", code="UNAUTHORIZED") == 1
    assert value(gateway, "sms_stage_refusals_total", stage="provider_gate", code="UNKNOWN_PROVIDER") == 1
    assert value(gateway, "sms_stage_duration_seconds_count", stage="quota") == 1
    assert value(gateway, "sms_broker_publishes_total", outcome="confirmed") == 1
    assert value(gateway, "sms_store_call_duration_seconds_count", operation="take") == 1
    assert value(gateway, "sms_connection_up", dependency="store") == 1
    assert value(gateway, "sms_connection_up", dependency="broker") == 1
    assert value(gateway, "sms_requests_in_flight") == 0


@on_embedded
def test_a_refusal_for_want_of_providers_is_counted(start_gateway: StartGateway) -> None:
    """Smart selection without a usable provider counts by client."""
    gateway = start_gateway(PROVIDERS_CONFIG="{}")
    assert gateway.send().json()["error_code"] == "NO_PROVIDER_AVAILABLE"
    assert value(gateway, "sms_request_rejected_no_provider_available_total", client="acme") == 1


def test_openmetrics_is_spoken_to_who_asks_for_it(gateway: Gateway) -> None:
    """The exposition follows ``Accept``, and parses as what it claims to be."""
    plain = gateway.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert list(parse_text(plain.text))
    answer = gateway.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    families: Any = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    assert list(families)


def test_labels_are_configured_names_only(gateway: Gateway) -> None:
    """Whatever is sent, no label takes it over."""
    gateway.send(providers=["some-nonsense-name"])
    gateway.http.post("/some-nonsense-path")
    text = gateway.http.get("/metrics").text
    assert "nonsense" not in text
    assert {match[1] for match in re.finditer(r'client="([^"]*)"', text)} <= CLIENTS.keys()


def test_one_scrape_is_the_sum_over_all_workers(start_gateway: StartGateway) -> None:
    """With two workers, whichever is asked answers for both, of the other as it was a second ago at the latest.

    A killed worker is replaced, and what it counted is kept.
    """
    gateway = start_gateway(workers=2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: gateway.send(), range(200)))
    assert {answer.status_code for answer in answers} <= {202, 503}
    until(lambda: value(gateway, "sms_send_requests_total") == 200, "the sum of both")
    # A worker that answers has carried over its own counts; so once it is 200, both have.
    assert {value(gateway, "sms_send_requests_total") for _ in range(5)} == {200}
    assert value(gateway, "sms_providers_config_total") == 4

    def are_both_connected() -> bool:
        return value(gateway, "sms_connection_up", dependency="broker") == 2

    def serving() -> list[str]:
        return [line["instance_id"] for line in gateway.log_lines() if line["message"] == "serving"]

    until(are_both_connected, "both connections")
    instances = serving()
    assert len(instances) == 2
    victim = int(next(iter(instances)).rsplit("-", 2)[1])
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(serving()) == 3 and are_both_connected(), "a third worker")
    assert value(gateway, "sms_send_requests_total") == 200
    assert gateway.stop() == 0


def test_two_workers_share_keys_and_quotas(start_gateway: StartGateway, own_backend: Backend) -> None:
    """Fifty at once with one key, and a hundred and fifty against a quota of 99, over two workers: both are exact."""
    gateway = start_gateway(workers=2)
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: gateway.send_until_served(key=key), range(50)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert len({answer.json()["tracking_id"] for answer in answers}) == 1
        crowd = pool.map(lambda _: gateway.send_until_served("crowd"), range(150))
        statuses = [answer.status_code for answer in crowd]
    assert (statuses.count(202), statuses.count(429)) == (99, 51)
    assert len(own_backend.take_all()) == 100


# Logs.


@on_embedded
def test_every_request_is_one_line_of_json(start_gateway: StartGateway) -> None:
    """Accepted or refused, a request has one line, with what is known of it and no more."""
    gateway = start_gateway()
    answers = [
        gateway.send(),
        gateway.send("small", text=""),
        gateway.send(None),
        gateway.http.get("/nowhere"),
    ]
    # A line is written when the answer has left: after the end all of them are there.
    gateway.stop()
    lines = gateway.log_lines()
    for line in lines:
        assert {"timestamp", "level", "service", "message"} <= line.keys()
        assert line["service"] == "server-a"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    by_id: dict[str, list[dict[str, Any]]] = {answer.headers["x-tracking-id"]: [] for answer in answers}
    for line in lines:
        if line.get("tracking_id") in by_id:
            by_id[line["tracking_id"]].append(line)
    assert [len(found) for found in by_id.values()] == [1, 1, 1, 1]
    accepted, invalid, unauthorized, lost = (found[0] for found in by_id.values())
    assert (accepted["client"], accepted["client_api_key"], accepted["to"]) == (
        "acme",
        "acme…",
        "+98912***4567",
    )
    assert accepted["latency_ms"] > 0
    assert "error_code" not in accepted
    assert (invalid["stage"], invalid["error_code"], invalid["client"]) == (
        "validation",
        "INVALID_PAYLOAD",
        "small",
    )
    assert (unauthorized["stage"], unauthorized["error_code"]) == ("auth", "UNAUTHORIZED")
    assert lost["error_code"] == "NOT_FOUND"
    assert any("Uvicorn running" in line["message"] for line in lines)


def test_the_first_start_warns_of_nothing(start_gateway: StartGateway) -> None:
    """A file, or exchanges and queues, that are not there yet are made without a word that worries."""
    gateway = start_gateway(HEARTBEAT_INTERVAL_SECONDS="1")
    until(lambda: value(gateway, "sms_heartbeats_total", outcome="sent"), "a heartbeat")
    assert [line for line in gateway.log_lines() if line["level"] not in {"DEBUG", "INFO"}] == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_who_closes_stdout_is_served_without_a_log(tmp_path: Path, workers: int, closed: str) -> None:
    """The lines are counted as dropped, and reach nothing that was opened in the place of stdout."""
    url = f"embedded:{tmp_path / 'gateway.db'}"
    gateway = Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url}, workers)
    gateway.command = ["sh", "-c", f'exec "$@" {closed}', "sh", *gateway.command]
    with gateway:
        assert gateway.send().status_code == 202
        assert value(gateway, "sms_log_lines_dropped_total") > 0
        assert gateway.stop() == 0
    assert gateway.log_text() == ""


@on_embedded
def test_the_log_level_is_honoured(start_gateway: StartGateway) -> None:
    """At WARNING a send leaves no line."""
    gateway = start_gateway(LOG_LEVEL="WARNING")
    gateway.send()
    assert "send accepted" not in gateway.log_text()


@pytest.mark.parametrize("broken", ["nothing", "REDIS_URL", "RABBITMQ_URL"])
def test_nothing_of_ours_tells_a_key_a_text_or_a_number(
    start_gateway: StartGateway,
    own_backend: Backend,
    redis_keys: Callable[[], str],
    tmp_path: Path,
    broken: str,
) -> None:
    """After every kind of answer: no byte of logs, metrics or Redis holds a key, a text or a whole number.

    The faults are searched likewise, each time that one is injected.
    """
    dead = {"REDIS_URL": "redis://:s3cr3t@127.0.0.1:1/0", "RABBITMQ_URL": "amqp://u:s3cr3t@127.0.0.1:1/"}
    changed = {broken: dead[broken]} if broken in dead else {}
    gateway = start_gateway(LOG_LEVEL="TRACE", ready=not changed, **changed)
    key = f"idempotency-key-{uuid.uuid4().hex}"
    answers = []
    for client in CLIENTS:
        bodies: tuple[dict[str, Any], ...] = (
            {},
            {"text": ""},
            {"providers": ["nobody", "off"]},
            {"to": TEXT},
            {TEXT: NUMBER},
        )
        answers += [
            *(gateway.send(client, **body) for body in bodies),
            gateway.send(client, key),
            gateway.send(client, key),
            gateway.send(client, key, ttl_seconds=60),
        ]
    answers += [gateway.send("nobody"), gateway.send(key=f"{key} {TEXT}")]
    headers = {"API-Key": key_of("acme"), "Content-Type": "application/json"}
    valid = json.dumps({"to": NUMBER, "text": TEXT}).encode()
    for content, changed_headers in (
        (valid[:-1], {}),
        (valid + b"\xff", {}),
        (valid.ljust(20_000), {}),
        (valid, {"Content-Type": "text/plain"}),
        (valid, {"API-Key": f"x{key_of('acme')}"}),
    ):
        answers.append(gateway.http.post(SEND, content=content, headers=headers | changed_headers))
    answers.append(
        gateway.http.post(f"/{key_of('acme')}", params={"to": NUMBER, "text": TEXT}, headers=headers)
    )
    answers.append(gateway.http.request(key_of("acme"), SEND, headers=headers))
    for sent in (valid, f"POST {SEND} HTTP/1.1\r\nAPI-Key {key_of('acme')}\r\n\r\n".encode() + valid):
        with raw_connection(gateway) as connection:
            connection.sendall(sent)
            assert read_answer(connection)[0] in {400, 405}
    assert {401, 404, 405, 413, 415, 422} <= {answer.status_code for answer in answers}
    assert gateway.http.get("/readyz").status_code == (503 if changed else 200)
    metrics = gateway.http.get("/metrics").text
    gateway.stop()
    everything = {
        "the logs": gateway.log_text(),
        "the metrics": metrics,
        "the answers": "".join(f"{answer.headers} {answer.text}" for answer in answers),
    }
    if not own_backend.redis_url.startswith(EMBEDDED):
        everything["Redis"] = redis_keys()
    secrets = (TEXT, NUMBER, NUMBER[1:], KEY_TAIL, key, "s3cr3t", *map(key_of, CLIENTS))
    for where, text in everything.items():
        assert [secret for secret in secrets if secret in text] == [], where
    # Envelopes hold text and number, and so does the embedded file, which is their queue; but no API key.
    stored = {file.name: file.read_bytes().decode("latin-1") for file in tmp_path.glob("gateway.db*")}
    if not changed:
        stored["the envelopes"] = json.dumps(own_backend.take_all())
        assert NUMBER in stored["the envelopes"]
    for where, text in stored.items():
        assert KEY_TAIL not in text, where


# The end.


def test_sigterm_answers_what_is_in_flight_and_exits_0(start_gateway: StartGateway) -> None:
    """A request whose body is still arriving is answered after SIGTERM; readiness turns; the exit code is 0."""
    gateway = start_gateway()
    body = json.dumps({"to": NUMBER, "text": TEXT}).encode()
    head = head_of(len(body))
    with raw_connection(gateway) as connection:
        connection.sendall(head + body[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        ending = threading.Thread(target=gateway.stop)
        ending.start()
        until(lambda: not accepts(gateway.port), "new connections are refused", seconds=5)
        connection.sendall(body[5:])
        assert read_answer(connection)[0] == 202
        ending.join()
    assert gateway.process is not None
    assert gateway.process.returncode == 0
    assert any("stopping" in line["message"] for line in gateway.log_lines())


SLOW_IMPORT = """
import sys, time

class Slow:
    @staticmethod
    def find_spec(name, path, target=None):
        if name == "gateway.app":
            print("importing", flush=True)
            time.sleep(3)

sys.meta_path.insert(0, Slow)
"""


def test_sigterm_while_it_starts_exits_0(tmp_path: Path) -> None:
    """A signal without a handler would end it by force, and be lost on the first process of a container."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT, encoding="utf-8")
    url = f"{EMBEDDED}{tmp_path / 'gateway.db'}"
    root = Path(__file__).parents[2]
    gateway = Gateway(tmp_path, {"REDIS_URL": url, "RABBITMQ_URL": url, "PYTHONPATH": f"{tmp_path}:{root}"})
    with gateway.log_path.open("ab") as log:
        gateway.process = subprocess.Popen(
            gateway.command, cwd=tmp_path, env=gateway.environ, stdout=log, stderr=log
        )
    until(lambda: "importing" in gateway.log_path.read_text(encoding="utf-8"), "the import")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(15) == 0
    gateway.http.close()


@on_embedded
def test_sigterm_does_not_wait_for_a_body_that_does_not_arrive(start_gateway: StartGateway) -> None:
    """A dripping body is given up early when the process is told to end, with its 408."""
    gateway = start_gateway()
    head = head_of(100)
    with raw_connection(gateway) as connection:
        connection.sendall(head)
        until(lambda: value(gateway, "sms_requests_in_flight") == 1)
        started = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - started < 9
        assert read_answer(connection)[0] == 408


@on_servers
def test_sigterm_does_not_wait_for_a_broker_that_hangs(
    start_gateway: StartGateway, rabbit_server: RabbitServer
) -> None:
    """A send that RabbitMQ does not confirm (SIGSTOP) has its answer, and the process ends with 0 within 15 s."""
    gateway = start_gateway()
    with rabbit_server.paused(), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(gateway.send)
        until(lambda: value(gateway, "sms_requests_in_flight") == 1 or sending.done())
        started = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - started < 15
        assert sending.result().json()["error_code"] == "OUTCOME_UNKNOWN"


SLOW = """
import asyncio

from pipeline.stage import Stage


class Slow(Stage):
    async def __call__(self, scope, receive, send):
        await asyncio.sleep(60)
"""


@on_servers
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_in_time_with_everything_hung(
    start_gateway: StartGateway,
    redis_server: RedisServer,
    rabbit_server: RabbitServer,
    tmp_path: Path,
    workers: int,
) -> None:
    """Bodies arrive at the last moment, a stage takes its time, Redis and RabbitMQ hang.

    Each request is answered, and all is over within 15 s.
    """
    (tmp_path / "slow.py").write_text(SLOW)
    config = tmp_path / "gateway.toml"
    allow = 'on_store_error = "allow"'
    stages = '"auth", "idempotency", "slow:Slow", "validation", "provider_gate", "quota"'
    config.write_text(f"pipeline = [{stages}]\n[stage.idempotency]\n{allow}\n[stage.quota]\n{allow}\n")
    gateway = start_gateway(
        workers=workers, GATEWAY_CONFIG=str(config), PYTHONPATH=f"{Path(__file__).parents[2]}:{tmp_path}"
    )
    assert gateway.process is not None
    body = json.dumps({"to": NUMBER, "text": TEXT}).encode()
    with ExitStack() as stack:
        connections = [stack.enter_context(raw_connection(gateway)) for _ in range(4)]
        for number, connection in enumerate(connections):
            connection.sendall(head_of(len(body), f"Idempotency-Key: hung-{number}") + body[:5])
        until(lambda: value(gateway, "sms_requests_in_flight") == len(connections))
        with redis_server.paused(), rabbit_server.paused():
            started = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            time.sleep(2.5)
            for connection in connections[1:]:
                connection.sendall(body[5:])
            codes = [json.loads(read_answer(connection)[2])["error_code"] for connection in connections]
            assert gateway.process.wait(20) == 0
            assert time.monotonic() - started < 15
    assert codes == ["REQUEST_TIMEOUT", *["SERVICE_UNAVAILABLE"] * 3]


@on_embedded
def test_workers_end_with_a_supervisor_that_is_killed(start_gateway: StartGateway) -> None:
    """After SIGKILL of the supervisor its workers end by themselves, and the port is free for the next gateway."""
    gateway = start_gateway(workers=2)
    gateway.kill()
    until(lambda: not accepts(gateway.port), "the end of the workers")
    gateway.start()
    assert gateway.send().status_code == 202


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_gateway_ends_at_once(start_gateway: StartGateway, workers: int) -> None:
    """SIGTERM with nothing in flight: exit code 0, no traceback."""
    gateway = start_gateway(workers=workers)
    gateway.send()
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log_text()


@on_embedded
def test_more_than_the_bound_in_flight_is_refused_at_once(start_gateway: StartGateway) -> None:
    """With MAX_IN_FLIGHT requests waiting for their bodies the next send is refused, and served once one is done."""
    gateway = start_gateway(MAX_IN_FLIGHT="2")
    body = json.dumps({"to": NUMBER, "text": TEXT}).encode()
    head = head_of(len(body))
    with raw_connection(gateway) as first, raw_connection(gateway) as second:
        for connection in (first, second):
            connection.sendall(head)
        until(lambda: value(gateway, "sms_requests_in_flight") == 2)
        refused = gateway.send()
        assert (refused.status_code, refused.json()["error_code"]) == (503, "SERVICE_UNAVAILABLE")
        assert refused.headers["retry-after"] == "1"
        assert gateway.http.get("/healthz").status_code == 200
        for connection in (first, second):
            connection.sendall(body)
            assert read_answer(connection)[0] == 202
    assert gateway.send().status_code == 202
