"""The composition root: from settings to backends, stages, routes, and the life of the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

import schemas
from gateway import backends, logs, process, settings, stages
from gateway.clock import SystemClock
from gateway.health import Health
from gateway.heartbeat import Heartbeats
from gateway.measured import MeasuredOutbox, MeasuredStore
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.settlement import SettlingStore
from gateway.telemetry import GatewayTelemetry
from pipeline import codes
from pipeline.admission import Admission, InFlight
from pipeline.boundary import Boundary
from pipeline.failures import Refused
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


def from_environment() -> Starlette:
    """The application as a server's workers make it, each for itself. Raises ``ConfigurationError``."""
    configured = settings.load(settings.environment())
    logs.configure(configured.service_name, configured.log_level)
    return create(configured)


def create(configured: Settings) -> Starlette:
    """The application; opens nothing before its lifespan begins."""
    metrics = Metrics()
    metrics.describe_providers(configured.providers)
    telemetry = GatewayTelemetry(metrics)
    clock = SystemClock()
    parts = backends.choose(configured, metrics)
    store = SettlingStore(MeasuredStore(parts.store, metrics))
    in_flight = InFlight(configured.max_in_flight, metrics.in_flight.set)
    health = Health([parts.store, parts.broker], parts.spool)
    heartbeats = Heartbeats(
        parts.bus,
        configured.service_name,
        configured.config_fingerprint,
        configured.heartbeat_interval_seconds,
        clock,
        metrics,
    )
    services = {
        "clients": configured.clients,
        "claims": store,
        "quotas": store,
        "providers": configured.providers,
        "clock": clock,
        "telemetry": telemetry,
        "schema": schemas.load("request"),
        "is_loopback": configured.is_loopback,
        "provider_gate_enabled": configured.provider_gate_enabled,
    }
    # What the claim's stage does when the store fails it also holds for arming its claim.
    serves = "idempotency" in configured.pipeline
    claim_options = configured.stage_options.get("idempotency", {}) if serves else {}
    on_claim_error = claim_options.get("on_store_error", REJECT)
    publish = Publish(
        outbox=MeasuredOutbox(parts.broker, metrics),
        claims=store,
        providers=configured.providers,
        config_fingerprint=configured.config_fingerprint,
        clock=clock,
        claim_policy=StorePolicy("publish", on_claim_error, telemetry),
    )
    send = ExactRoute(
        SEND_PATH,
        Timed(publish, "publish", telemetry),
        methods=["POST"],
        middleware=[
            Middleware(Admission, in_flight=in_flight),
            *timed(stages.build(configured.pipeline, configured.stage_options, services), telemetry),
        ],
    )

    async def scrape(request: Request) -> Response:
        body, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def drain() -> None:
        health.is_draining = True
        in_flight.drain()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for part in (parts.store, parts.broker, parts.bus):
                await part.start()
                stack.push_async_callback(part.close)
            stack.push_async_callback(store.close)
            for work in (heartbeats.run(), process.end_with_parent()):
                stack.push_async_callback(_cancelled, asyncio.create_task(work))
            stack.enter_context(process.before_the_end(drain))
            # The first senders should not be refused only because connections are still being made. Nor must a store
            # or a broker that is away keep the process from serving.
            await health.wait_for_first_answers(_START_SECONDS)
            logger.bind(pipeline=list(configured.pipeline), instance_id=heartbeats.instance_id).info(
                "serving"
            )
            for warning in configured.warnings:
                logger.warning("configuration: {}", warning)
            yield
            logger.info("stopping: every request has its answer")

    app = Starlette(
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
