"""What everything is compared with: uvicorn as the gateway runs it, around an app that reads a body and answers 202.

``python -m tests.bench.bare PORT`` serves it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from tests.support.servers import accepts, free_port

_ROOT = Path(__file__).parents[2]
_ANSWER = (
    b'{"success":true,"message":"Request accepted for processing.",'
    b'"tracking_id":"00000000-0000-4000-8000-000000000000"}'
)
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_ANSWER)).encode()),
    (b"x-tracking-id", b"00000000-0000-4000-8000-000000000000"),
]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


@dataclass(frozen=True)
class Bare:
    """The running process."""

    pid: int
    url: str


@contextlib.contextmanager
def serving() -> Iterator[Bare]:
    """The process, from when it accepts connections to its end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(port)], cwd=_ROOT, stdin=subprocess.DEVNULL
    )
    try:
        while not accepts(port):
            if process.poll() is not None:
                raise RuntimeError("bare uvicorn did not start")
            time.sleep(0.05)
        yield Bare(process.pid, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    # As in gateway/serve.py, but for the protocol: bounds of a request's head are the gateway's own.
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
    )
