"""The log lines of one test."""

from __future__ import annotations

import json
from typing import Any

import pytest


class Lines:
    """What was written to stdout."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self.capture = capture

    def all(self) -> list[dict[str, Any]]:
        captured = self.capture.readouterr()
        assert captured.err == b""
        return [json.loads(line) for line in captured.out.splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.all()
        return line
