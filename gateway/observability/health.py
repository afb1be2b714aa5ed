"""Liveness and readiness: whether the process serves, and whether what it depends on answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.dependency import Degraded, Dependency

# The whole answer is to be there within a second.
_PING_SECONDS = 0.8
_START_POLL_SECONDS = 0.02


class Health:
    """The endpoints ``/healthz`` and ``/readyz``.

    A dependency's last error stays in the report after it has recovered, with its age: who looks at three in the
    morning wants to know what it was. Where there is a ``spool``, it and the broker stand in for each other: while
    one of them is down, or the spool holds messages, the process is ``degraded``, and serves.
    """

    def __init__(self, dependencies: Sequence[Dependency], spool: Dependency | None = None) -> None:
        self.dependencies = [*dependencies, spool] if spool else dependencies
        self._either = {"broker", spool.name} if spool else set()
        self.is_draining = False
        self._last_errors: dict[str, tuple[str, float]] = {}

    async def wait_for_first_answers(self, seconds: float) -> None:
        """Return when every dependency has answered once, and after so many seconds whether or not it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*map(_first_answer, self.dependencies))

    async def alive(self, request: Request) -> Response:
        """200 while the process serves; asks nothing of anybody."""
        return _json(200, {"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 when sends can be accepted and the process is not about to end, otherwise 503; within a second."""
        reports = await asyncio.gather(*map(self._report, self.dependencies))
        names = [dependency.name for dependency in self.dependencies]
        dependencies = dict(zip(names, reports, strict=True))
        status = self._status({name: report["state"] for name, report in dependencies.items()})
        return _json(
            200 if status in {"ready", "degraded"} else 503, {"status": status, "dependencies": dependencies}
        )

    def _status(self, states: dict[str, str]) -> str:
        if self.is_draining:
            return "draining"
        found = set(states.values())
        if found == {"up"}:
            return "ready"
        down = {name for name, state in states.items() if state == "down"}
        # What is full refuses whatever the broker would say: messages keep their order.
        serves = "full" not in found and (not down or down < self._either)
        return "degraded" if serves else "unavailable"

    async def _report(self, dependency: Dependency) -> dict[str, Any]:
        started = time.perf_counter()
        state = "up"
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await dependency.ping()
        except TimeoutError:
            state = "down"
            self._last_errors[dependency.name] = (f"no answer within {_PING_SECONDS} s", started)
        except Degraded as error:
            state = error.state
            self._last_errors[dependency.name] = (str(error), started)
        except asyncio.CancelledError:
            # A lost connection may surface so; a real cancellation is counted by the task.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            state = "down"
            self._last_errors[dependency.name] = ("the connection was lost", started)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from answering, the report says so
            state = "down"
            self._last_errors[dependency.name] = (str(error) or type(error).__name__, started)
        now = time.perf_counter()
        report: dict[str, Any] = {
            "state": state,
            "latency_ms": round((now - started) * 1000, 3),
            "last_error": None,
        }
        if dependency.name in self._last_errors:
            reason, when = self._last_errors[dependency.name]
            report["last_error"] = reason
            report["last_error_seconds_ago"] = round(now - when, 1)
        return report


async def _first_answer(dependency: Dependency) -> None:
    while True:
        try:
            await dependency.ping()
        except Degraded:
            return
        except Exception:  # noqa: BLE001 - whatever it is, it is about to be tried again, and health tells of it later
            await asyncio.sleep(_START_POLL_SECONDS)
        else:
            return


def _json(status: int, document: object) -> Response:
    return Response(
        orjson.dumps(document), status, media_type="application/json", headers={"cache-control": "no-store"}
    )
