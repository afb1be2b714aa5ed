"""Waiting for what will be so: asked again and again, never slept for, and given up with words after a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

# Far longer than anything takes: a machine that others use is slow, and who waits in vain fails anyway.
PATIENT_SECONDS = 30.0
_EVERY_SECONDS = 0.01

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]


def until(
    found: Callable[[], T | None],
    what: str = "what was waited for",
    seconds: float = PATIENT_SECONDS,
    *,
    every_seconds: float = _EVERY_SECONDS,
    passing_over: Errors = (),
) -> T:
    """What ``found`` gives as soon as that is true; the errors that are passed over count as "not yet".

    Raises ``AssertionError`` after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            if result := found():
                return result
        except passing_over as error:
            last = error
        _check(deadline, what, seconds, last)
        time.sleep(every_seconds)


async def eventually(
    holds: Callable[[], object],
    what: str = "what was waited for",
    seconds: float = PATIENT_SECONDS,
) -> None:
    """Return as soon as this is true, while the event loop goes on; what is awaitable is awaited.

    Raises ``AssertionError`` after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = holds()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        _check(deadline, what, seconds, None)
        await asyncio.sleep(_EVERY_SECONDS)


async def once_served(
    step: Callable[[], Awaitable[T]], refusal: Errors, seconds: float = PATIENT_SECONDS
) -> T:
    """What ``step`` gives as soon as it no longer raises this refusal. Raises ``AssertionError`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await step()
        except refusal as error:
            _check(deadline, "a step that is carried out", seconds, error)
        await asyncio.sleep(_EVERY_SECONDS)


def _check(deadline: float, what: str, seconds: float, last: Exception | None) -> None:
    if time.monotonic() > deadline:
        error = f"; the last error was {last!r}" if last else ""
        raise AssertionError(f"{what}: not within {seconds:g} s{error}")
