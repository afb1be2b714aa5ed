"""The composition root: from settings to backends, stages, routes, and the life of the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import schemas
from gateway import backends, process
from gateway.clock import SystemClock
from gateway.config.settings import Settings
from gateway.http.limits import CONNECTION_REFUSED
from gateway.observability.health import Health
from gateway.observability.heartbeat import Heartbeats
from gateway.observability.logs import Log
from gateway.observability.metrics import Metrics
from gateway.observability.telemetry import GatewayTelemetry
from gateway.retries import RetryingStore
from gateway.worker import Worker
from pipeline import codes, wiring
from pipeline.boundary import Boundary
from pipeline.failures import Refused
from pipeline.ports import Exposure, GateSwitch
from pipeline.publish import Publish
from pipeline.stage import Timed, timed
from pipeline.store_policy import REJECT, StorePolicy

SEND_PATH = "/api/v1/sms/send"

_START_SECONDS = 2.0


class ExactRoute(Route):
    """A route that matches its path to the letter: Starlette's pattern takes one more line feed at the end."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See ``starlette.routing.BaseRoute``."""
        return super().matches(scope) if scope["path"] == self.path else (Match.NONE, {})


class Gateway(Starlette):
    """Starlette, with a door of its own for sends.

    A send needs neither the search of the router nor the error handling that lies around it: it has a boundary of its
    own. The route stands in the router too, so that another method on its path is refused with 405; no send gets there.
    """

    def __init__(self, send: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._send = send

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]  # To await.
        """Serve one request, or the lifespan."""
        if scope["type"] == "http" and scope["path"] == SEND_PATH and scope["method"] == "POST":
            scope["app"] = self
            return self._send(scope, receive, send)
        return super().__call__(scope, receive, send)


def of_process(configured: Settings, log: Log, worker: Worker | None = None) -> Gateway:
    """The application of a process that does nothing but serve it."""
    app = create(configured, log, worker)
    process.tune_gc()
    return app


def create(configured: Settings, log: Log, worker: Worker | None = None) -> Gateway:
    """The application, for ``worker`` where there are several; opens nothing before its lifespan begins."""
    metrics = Metrics(None if worker is None else worker.share)
    metrics.describe_providers(configured.providers)
    metrics.watch_log(lambda: log.dropped)
    telemetry = GatewayTelemetry(metrics, log)
    clock = SystemClock()
    parts = backends.choose(configured, metrics)
    store = RetryingStore(parts.store, on_given_up=lambda reason: metrics.store_given_up.labels(reason).inc())
    health = Health([parts.store, parts.broker], parts.spool)
    heartbeats = Heartbeats(
        parts.bus,
        configured.service_name,
        configured.config_fingerprint,
        configured.heartbeat_interval_seconds,
        clock,
        metrics,
    )
    services = wiring.Services(
        clients=configured.clients,
        claims=store,
        quotas=store,
        providers=configured.providers,
        clock=clock,
        telemetry=telemetry,
        schema=schemas.load("request"),
        exposure=Exposure(configured.is_loopback),
        gate_switch=GateSwitch(configured.provider_gate_enabled),
    )
    # What the claim's stage does when the store fails it also holds for arming its claim.
    serves = "idempotency" in configured.pipeline
    claim_options = configured.stage_options.get("idempotency", {}) if serves else {}
    on_claim_error = claim_options.get("on_store_error", REJECT)
    publish = Publish(
        outbox=parts.broker,
        claims=store,
        providers=configured.providers,
        config_fingerprint=configured.config_fingerprint,
        clock=clock,
        telemetry=telemetry,
        claim_policy=StorePolicy("publish", on_claim_error, telemetry),
    )
    send = ExactRoute(
        SEND_PATH,
        Timed(publish, "publish", telemetry.stopwatch("publish")),
        methods=["POST"],
        middleware=timed(wiring.build(configured.pipeline, configured.stage_options, services), telemetry),
    )
    boundary = Boundary(send.app, clock, telemetry, is_send=True, most_in_flight=configured.max_in_flight)
    metrics.watch_in_flight(lambda: boundary.in_flight)

    async def scrape(request: Request) -> Response:
        body, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def drain() -> None:
        health.is_draining = True
        boundary.drain()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.AsyncExitStack() as stack:
            ending = process.Ending(drain)
            stack.enter_context(ending.on_signal())
            if worker is None:
                stack.enter_context(process.on_hangup())
            else:
                stack.push_async_callback(_cancelled, asyncio.create_task(worker.keep_in_touch()))
            for part in (parts.store, parts.broker, parts.bus):
                await part.start()
                stack.push_async_callback(ending.close, part.close)
            stack.push_async_callback(ending.close, store.close)
            for work in (heartbeats.run(), metrics.keep_up()):
                stack.push_async_callback(_cancelled, asyncio.create_task(work))
            # The first senders should not be refused only because connections are still being made. Nor must a store
            # or a broker that is away keep the process from serving.
            await health.wait_for_first_answers(_START_SECONDS)
            logger.bind(pipeline=list(configured.pipeline), instance_id=heartbeats.instance_id).info(
                "serving"
            )
            for warning in configured.warnings:
                logger.warning("configuration: {}", warning)
            yield {CONNECTION_REFUSED: metrics.connections_refused.inc}
            logger.info("stopping: every request has its answer")

    app = Gateway(
        boundary,
        routes=[
            send,
            ExactRoute("/healthz", health.alive),
            ExactRoute("/readyz", health.ready),
            ExactRoute("/metrics", scrape),
        ],
        middleware=[Middleware(Boundary, clock=clock, telemetry=telemetry)],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    # "/healthz/" is another path than "/healthz": a redirect would be an answer that the contract does not know.
    app.router.redirect_slashes = False
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Turn the router's own errors into refusals, which the boundary renders."""
    assert isinstance(error, HTTPException)
    if error.status_code == codes.METHOD_NOT_ALLOWED.status:
        allow = (error.headers or {}).get("Allow", "")
        raise Refused(codes.METHOD_NOT_ALLOWED, headers=((b"allow", allow.encode()),))
    raise Refused(codes.NOT_FOUND)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
