"""Heartbeats: what this process says of itself, and what it hears of the others' configuration.

A gateway that serves with another configuration than its neighbours is found here, not by its senders.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time

import orjson
from loguru import logger

from gateway import __version__
from gateway.dependency import HeartbeatBus
from gateway.observability.metrics import Metrics
from pipeline.envelope import ConfigFingerprint
from pipeline.ports import BrokerRefused, BrokerUnknown, Clock
from pipeline.timing.timestamps import timestamp
from schemas import load

_FIRST_RETRY_SECONDS = 0.25
_STARTING_SECONDS = 5.0


class Heartbeats:
    """Sends a heartbeat on start and at every interval, and compares those that arrive. Never touches serving."""

    def __init__(
        self,
        bus: HeartbeatBus,
        service: str,
        fingerprint: ConfigFingerprint,
        interval_seconds: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.bus = bus
        self.service = service
        self.fingerprint = {"clients": fingerprint.clients, "providers": fingerprint.providers}
        self.interval_seconds = interval_seconds
        self.clock = clock
        self.metrics = metrics
        self.instance_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._started = time.monotonic()
        self._schema = load("heartbeat")
        bus.listen(self.hear)

    async def run(self) -> None:
        """Send for ever; a heartbeat that fails is tried again with backoff, at most an interval apart."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self.bus.send(self.heartbeat())
            except Exception as error:  # noqa: BLE001 - a bug in here must not end the heartbeats for good
                pause = min(retry_seconds, self.interval_seconds)
                retry_seconds *= 2
                self._tell(error, pause)
            else:
                self.metrics.heartbeats.labels("sent").inc()
                retry_seconds = _FIRST_RETRY_SECONDS
                pause = self.interval_seconds
            # Gateways that were started together need not speak together.
            await asyncio.sleep(pause * random.uniform(0.95, 1.0))  # noqa: S311 - jitter, no secret

    def _tell(self, error: Exception, pause: float) -> None:
        self.metrics.heartbeats.labels("failed").inc()
        if not isinstance(error, BrokerRefused | BrokerUnknown):
            logger.opt(exception=error).error("the heartbeat was not sent: trying again in {} s", pause)
            return
        # Right after the start the connection is still being made, which is no news.
        is_starting = time.monotonic() - self._started < _STARTING_SECONDS
        logger.bind(cause=str(error)).log(
            "DEBUG" if is_starting else "WARNING", "the heartbeat was not sent: trying again in {} s", pause
        )

    def heartbeat(self) -> bytes:
        """This process as ``sms.heartbeat.v1``."""
        return orjson.dumps(
            {
                "service": self.service,
                "instance_id": self.instance_id,
                "version": __version__,
                "ts": timestamp(self.clock.now()),
                "config_fingerprint": self.fingerprint,
                "uptime_seconds": round(time.monotonic() - self._started, 3),
            }
        )

    def hear(self, heartbeat: bytes) -> None:
        """Compare another gateway's fingerprints with ours; count and warn where they differ."""
        try:
            document = orjson.loads(heartbeat)
        except orjson.JSONDecodeError:
            document = None
        if not self._schema.is_valid(document):
            logger.warning("a heartbeat that is not sms.heartbeat.v1 was passed over")
            return
        if document["instance_id"] == self.instance_id:
            return
        for kind, ours in self.fingerprint.items():
            theirs = document["config_fingerprint"][kind]
            if theirs != ours:
                self.metrics.fingerprint_mismatch.labels(kind).inc()
                logger.bind(kind=kind, ours=ours, theirs=theirs, instance_id=document["instance_id"]).warning(
                    "another gateway is configured otherwise: compare the two with 'sms-gateway check'"
                )
