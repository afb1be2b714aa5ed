"""The log lines of one test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.observability.logs import Log


class Lines:
    """What was written to stdout."""

    def __init__(self, capture: pytest.CaptureFixture[bytes], log: Log) -> None:
        self.capture = capture
        self.log = log

    def all(self) -> list[dict[str, Any]]:
        self.log.flush()
        captured = self.capture.readouterr()
        assert captured.err == b""
        return [json.loads(line) for line in captured.out.splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.all()
        return line
