"""The composed application, on the embedded backend and without a socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from gateway import retries
from gateway.app import SEND_PATH, Gateway, create
from gateway.config import settings
from gateway.embedded.commands import show_messages
from gateway.embedded.store import EmbeddedStore
from gateway.observability.logs import Log
from pipeline.facts import Claim
from pipeline.ports import StoreUnavailable
from schemas import load
from tests.support.lines import Lines

KEY = "s3cr3t-acme-0123456789"
SEND = {"to": "+989121234567", "text": "a text that no log may hold"}
HEADERS = {"api-key": KEY}


def environ(path: Path, **changed: str) -> dict[str, str]:
    return {
        "REDIS_URL": f"embedded:{path / 'gateway.db'}",
        "RABBITMQ_URL": f"embedded:{path / 'gateway.db'}",
        "CLIENT_CONFIG": json.dumps({KEY: {"name": "acme", "daily_quota": 5}}),
        "PROVIDERS_CONFIG": json.dumps({"alpha": {"aliases": ["a"]}, "off": {"is_active": False}}),
        **changed,
    }


def created(path: Path, **changed: str) -> Gateway:
    return create(settings.load(environ(path, **changed)), Log("server-a", "INFO"))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The lifespan puts signal handlers in place and must take them away again."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


class Served:
    """An application whose life has begun."""

    def __init__(self, app: Gateway, path: Path) -> None:
        self.app = app
        self.path = path
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")

    async def send(self, **changed: Any) -> httpx.Response:
        return await self.http.post(SEND_PATH, json=SEND | changed, headers=HEADERS)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    app = created(tmp_path)
    async with app.router.lifespan_context(app):
        found = Served(app, tmp_path)
        yield found
        await found.http.aclose()


async def test_a_send_is_accepted_and_stored(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    """The answer's tracking_id is that of the message in the outbox."""
    answer = await served.send(providers=["A"])
    assert (answer.status_code, load("accepted").violations(answer.json())) == (202, [])
    assert answer.headers["x-tracking-id"] == answer.json()["tracking_id"]
    assert answer.headers["ratelimit"].startswith('"daily";r=4;t=')
    capfd.readouterr()
    await asyncio.to_thread(show_messages, str(served.path / "gateway.db"), follow=False, full=True)
    assert answer.json()["tracking_id"] in capfd.readouterr().out


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("POST", "/api/v1/sms/send/", 404, "NOT_FOUND", None),
        ("POST", "/api/v1/sms", 404, "NOT_FOUND", None),
        ("POST", "/api/v1/sms/send%0A", 404, "NOT_FOUND", None),
        ("GET", "/", 404, "NOT_FOUND", None),
        ("GET", "/healthz/", 404, "NOT_FOUND", None),
        ("GET", "/docs", 404, "NOT_FOUND", None),
        ("GET", SEND_PATH, 405, "METHOD_NOT_ALLOWED", {"POST"}),
        ("HEAD", SEND_PATH, 405, "METHOD_NOT_ALLOWED", {"POST"}),
        ("OPTIONS", SEND_PATH, 405, "METHOD_NOT_ALLOWED", {"POST"}),
        ("BREW", SEND_PATH, 405, "METHOD_NOT_ALLOWED", {"POST"}),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED", {"GET", "HEAD"}),
        ("DELETE", "/metrics", 405, "METHOD_NOT_ALLOWED", {"GET", "HEAD"}),
    ],
)
async def test_every_other_path_and_method_is_refused_in_one_form(
    served: Served, method: str, path: str, status: int, code: str, allow: set[str] | None
) -> None:
    """No redirect, no text of the framework's: the ErrorResponse, and Allow where there is another method."""
    answer = await served.http.request(method, path)
    assert answer.status_code == status
    if method != "HEAD":  # Its answer has no body.
        assert load("error").violations(answer.json()) == []
        assert answer.json()["error_code"] == code
        assert answer.headers["x-tracking-id"] == answer.json()["tracking_id"]
    assert (set(answer.headers["allow"].split(", ")) if allow else answer.headers.get("allow")) == allow


async def test_health_and_readiness_are_served(served: Served) -> None:
    """The store and the broker are asked under the names of the contract."""
    assert (await served.http.get("/healthz")).status_code == 200
    ready = await served.http.get("/readyz")
    assert (ready.status_code, list(ready.json()["dependencies"])) == (200, ["store", "broker"])


async def test_metrics_count_what_happened(served: Served) -> None:
    """A send, a refusal and their stages are in the next scrape; the scrape itself is no send."""
    await served.send()
    await served.send(providers=["off"])
    scraped = (await served.http.get("/metrics")).text
    for line in (
        "sms_send_requests_total 2.0",
        "sms_send_request_success_total 1.0",
        "sms_send_request_error_total 1.0",
        'sms_request_rejected_provider_disabled_total{client="acme",provider="off"} 1.0',
        'sms_stage_refusals_total{code="PROVIDER_DISABLED",stage="provider_gate"} 1.0',
        'sms_stage_duration_seconds_count{stage="publish"} 1.0',
        'sms_broker_publishes_total{outcome="confirmed"} 1.0',
        'sms_connection_up{dependency="store"} 1.0',
        "sms_requests_in_flight 0.0",
    ):
        assert line in scraped.splitlines()
    openmetrics = await served.http.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")


async def test_a_request_is_logged_once_and_without_secrets(served: Served, lines: Lines) -> None:
    """Neither the text, nor the number, nor the key is in any line."""
    answer = await served.send()
    await asyncio.sleep(0)  # Lines leave at the end of a turn.
    (line,) = [line for line in lines.all() if line.get("tracking_id") == answer.json()["tracking_id"]]
    assert (line["client"], line["client_api_key"], line["to"]) == ("acme", "s3cr…", "+98912***4567")
    assert SEND["text"] not in json.dumps(line)
    assert KEY not in json.dumps(line)


async def test_the_end_of_the_process_is_told_before_it_comes(tmp_path: Path) -> None:
    """On SIGTERM readiness turns 503 first, and the server's own handler still gets the signal."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        app = created(tmp_path)
        async with app.router.lifespan_context(app):
            http = Served(app, tmp_path).http
            assert (await http.get("/readyz")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert (await http.get("/healthz")).status_code == 200
            await http.aclose()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_nothing_is_opened_before_the_lifespan_begins(tmp_path: Path) -> None:
    """To compose the application touches nothing."""
    created(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_more_sends_than_the_limit_are_refused(tmp_path: Path) -> None:
    """MAX_IN_FLIGHT holds; what was admitted is served."""
    app = created(tmp_path, MAX_IN_FLIGHT="1")
    async with app.router.lifespan_context(app):
        served = Served(app, tmp_path)
        answers = await asyncio.gather(*(served.send() for _ in range(5)))
        await served.http.aclose()
    codes = sorted(answer.status_code for answer in answers)
    assert codes[0] == 202
    assert codes[-1] == 503
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert (refused.json()["error_code"], refused.headers["retry-after"]) == ("SERVICE_UNAVAILABLE", "1")


async def test_sighup_is_told_of_and_ends_nothing(served: Served, lines: Lines) -> None:
    """What it does elsewhere, it does not do here: the line says what to do instead."""
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.01)
    assert [line["level"] for line in lines.all() if "SIGHUP changes nothing" in line["message"]] == [
        "WARNING"
    ]
    assert (await served.send()).status_code == 202


async def test_the_door_for_sends_leads_to_the_same_stages(served: Served) -> None:
    """Past the router or through it, the answers are the same."""
    direct = [await served.send(), await served.send(text=""), await served.send(providers=["off"])]
    through_router = Starlette.__call__
    served.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(lambda *asgi: through_router(served.app, *asgi)),
        base_url="http://gateway",
    )
    routed = [await served.send(), await served.send(text=""), await served.send(providers=["off"])]
    changing = {"x-tracking-id", "ratelimit"}
    for one, other in zip(direct, routed, strict=True):
        assert one.status_code == other.status_code
        assert one.headers.keys() == other.headers.keys()
        assert all(
            one.headers[name] == other.headers[name]
            for name in one.headers
            if name not in changing | {"content-length"}
        )
        assert one.json().keys() == other.json().keys()


def test_options_of_a_stage_that_does_not_serve_have_no_effect(tmp_path: Path) -> None:
    """A table that is left behind in the file keeps nobody from starting."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        'pipeline = ["auth", "validation"]\n[stage.idempotency]\non_store_error = "ignore"\n[stage.anonymous]\n'
    )
    created(tmp_path, GATEWAY_CONFIG=str(path))


async def test_a_send_costs_the_store_three_calls_with_a_key_and_one_without(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay costs one; a refusal with a verdict two, and none where there is no key to keep it under."""
    calls: list[str] = []

    def count(step: str) -> None:
        take = getattr(EmbeddedStore, step)

        async def counted(*arguments: Any) -> Any:
            calls.append(step)
            return await take(*arguments)

        monkeypatch.setattr(EmbeddedStore, step, counted)

    for step in ("begin", "take", "arm", "complete", "release", "suspend", "give_back"):
        count(step)

    async def calls_of(key: str | None, **changed: Any) -> list[str]:
        calls.clear()
        headers = HEADERS | ({"idempotency-key": key} if key else {})
        await served.http.post(SEND_PATH, json=SEND | changed, headers=headers)
        return list(calls)

    assert await calls_of("k") == ["begin", "take", "complete"]
    assert await calls_of("k") == ["begin"]
    assert await calls_of("refused", text="") == ["begin", "complete"]
    assert await calls_of(None) == ["take"]
    assert await calls_of(None, text="") == []


@pytest.mark.parametrize(("on_store_error", "status"), [("allow", 202), ("reject", 503)])
async def test_without_a_quota_the_claims_stage_decides_about_arming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_store_error: str, status: int
) -> None:
    """Publish arms the claim then, and what ``idempotency`` was told to do when the store fails holds for it."""

    async def fail(store: EmbeddedStore, claim: Claim) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(EmbeddedStore, "arm", fail)
    path = tmp_path / "gateway.toml"
    path.write_text(
        'pipeline = ["auth", "idempotency", "validation"]\n'
        f'[stage.idempotency]\non_store_error = "{on_store_error}"\n'
    )
    app = created(tmp_path, GATEWAY_CONFIG=str(path))
    async with app.router.lifespan_context(app):
        http = Served(app, tmp_path).http
        answer = await http.post(SEND_PATH, json=SEND, headers=HEADERS | {"idempotency-key": "k"})
        scraped = (await http.get("/metrics")).text.splitlines()
        await http.aclose()
    assert answer.status_code == status
    passed_over = 'sms_store_passed_over_total{operation="arm",stage="publish"} 1.0'
    assert (passed_over in scraped) is (status == 202)


async def test_a_last_step_that_is_given_up_is_counted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here at once, for want of room to wait in."""

    async def fail(store: EmbeddedStore, claim: Claim, answer: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(EmbeddedStore, "complete", fail)
    monkeypatch.setattr(retries, "_MOST_WAITING", 0)
    answer = await served.http.post(SEND_PATH, json=SEND, headers=HEADERS | {"idempotency-key": "k"})
    assert answer.status_code == 202
    scraped = (await served.http.get("/metrics")).text.splitlines()
    assert 'sms_store_given_up_total{reason="full"} 1.0' in scraped


@pytest.mark.parametrize("key", [None, "key"])
async def test_no_depth_of_nesting_is_a_failure_of_ours(served: Served, key: str | None) -> None:
    """From the deepest that is parsed to the shallowest that is not, a nested body is refused as invalid."""
    for depth in (*range(240, 270, 5), *range(900, 1030, 5)):
        body = '{"to": ' + "[" * depth + "]" * depth + ', "text": "x"}'
        headers = HEADERS | {"content-type": "application/json"}
        if key:
            headers["idempotency-key"] = f"{key}-{depth}"
        answer = await served.http.post(SEND_PATH, content=body, headers=headers)
        assert (answer.status_code, depth) == (422, depth)
