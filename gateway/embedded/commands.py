"""What operators do with the embedded outbox: look at what waits in it, and move it on."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson

from gateway.embedded.connection import Reader
from gateway.embedded.database import Database
from gateway.embedded.failures import DatabaseError, NotOurs, explain
from gateway.embedded.filelock import FileLock
from gateway.embedded.moving.mover import Destination, Mover, forward_lock
from gateway.embedded.outbox import EmbeddedOutbox, Waiting, count_waiting, select_waiting
from gateway.observability.logs import mask
from pipeline.timing.timestamps import timestamp

DONE, UNFINISHED, MISTAKE = 0, 1, 2

_PAGE = 500
_LOOK_AGAIN_SECONDS = 0.3
_PROGRESS_SECONDS = 5.0


def show_messages(path: str | os.PathLike[str], *, follow: bool = False, full: bool = False) -> int:
    """Print what waits in the outbox at ``path``, one JSON object a line, in order; with ``follow``, for ever.

    The text, and the whole number, only with ``full``. Returns the exit code: 0, or 2 when the file cannot be read.
    """
    reader = Reader(Path(path))
    position = 0
    try:
        while True:
            waiting = reader.read(partial(select_waiting, after=position, limit=_PAGE))
            for message in waiting:
                position = message.position
                sys.stdout.buffer.write(orjson.dumps(describe(message, full=full)) + b"\n")
            sys.stdout.buffer.flush()
            if not waiting:
                if not follow:
                    break
                time.sleep(_LOOK_AGAIN_SECONDS)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (sqlite3.Error, OSError, NotOurs) as error:
        _say(f"error: {explain(reader.path, error)}")
        return MISTAKE
    finally:
        reader.close()
    if not position:
        _say("no message waits")
    return DONE


def describe(message: Waiting, *, full: bool) -> dict[str, Any]:
    """A message as ``messages`` shows it."""
    envelope = orjson.loads(message.body)
    shown = {
        "position": message.position,
        "tracking_id": message.tracking_id,
        "client": envelope["client"],
        "to": envelope["to"] if full else mask(envelope["to"]),
        "characters": len(envelope["text"]),
        "providers": envelope["providers_effective"],
        "created_at": timestamp(message.created_at),
        "expires_at": timestamp(message.expires_at),
    }
    return {**shown, "text": envelope["text"]} if full else shown


class Broker(Destination, Protocol):
    """A destination with a life."""

    async def start(self) -> None:
        """See ``gateway.dependency.Dependency``."""

    async def close(self) -> None:
        """See ``gateway.dependency.Dependency``."""


def forward(path: str | os.PathLike[str], destination: Broker, *, follow: bool = False) -> int:
    """Move what waits in the outbox at ``path`` to ``destination``, in order; with ``follow``, for ever.

    Waits for a broker that is down. Tells its progress on standard error, and its figures in one JSON object on
    standard output. Returns the exit code: 0 when everything was moved, or ``follow`` was ended by SIGINT or SIGTERM;
    1 when that ended it before, or another process is forwarding this file; 2 when the file cannot be used.
    """
    path = Path(path)
    reader = Reader(path)
    try:
        reader.read(count_waiting)
        lock = FileLock(forward_lock(path))
    except (sqlite3.Error, OSError, NotOurs) as error:
        _say(f"error: {explain(path, error)}")
        return MISTAKE
    finally:
        reader.close()
    try:
        if not lock.take():
            _say(f"error: another process is forwarding {path}")
            return UNFINISHED
        return asyncio.run(_forward(EmbeddedOutbox(Database(path)), destination, follow=follow))
    finally:
        lock.close()


async def _forward(source: EmbeddedOutbox, destination: Broker, *, follow: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    mover = Mover(source, destination, on_trouble=_Notices())
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        for part in (source, destination):
            await part.start()
            stack.push_async_callback(part.close)
        progress = asyncio.create_task(_tell_progress(mover, source))
        stack.callback(progress.cancel)
        await mover.run(stop, follow=follow)
        try:
            left: int | None = await source.count()
        except DatabaseError:
            left = None
    figures = {
        "moved": mover.moved,
        "expired": mover.expired,
        "repeated": mover.repeated,
        "left": left,
        "seconds": round(time.monotonic() - started, 3),
    }
    sys.stdout.buffer.write(orjson.dumps(figures) + b"\n")
    sys.stdout.buffer.flush()
    if mover.unremoved:
        _say(
            f"{mover.unremoved} of those that wait are in RabbitMQ already and could not be removed here:"
            " they will be moved again, under the same tracking_id"
        )
        return UNFINISHED
    return DONE if follow or not stop.is_set() or left == 0 else UNFINISHED


async def _tell_progress(mover: Mover, source: EmbeddedOutbox) -> None:
    told = 0
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        if mover.moved != told:
            told = mover.moved
            with suppress(DatabaseError):
                _say(f"moved {told}, {await source.count()} wait")


class _Notices:
    """Says why nothing moves, once for each reason."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, error: Exception) -> None:
        if str(error) != self._last:
            self._last = str(error)
            _say(f"waiting: {error}")


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
