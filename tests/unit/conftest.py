"""What the tests of several modules need."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from loguru import logger

from gateway.observability import logs
from tests.support.lines import Lines


@pytest.fixture
def lines(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Lines]:
    """Logging as the gateway configures it, for one test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log = logs.configure("server-a", "DEBUG")
    yield Lines(capfdbinary, log)
    logger.remove()
    root.handlers[:], root.level = before
