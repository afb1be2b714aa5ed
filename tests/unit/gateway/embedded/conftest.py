"""A file for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.embedded.database import Database
from tests.support.embedded import (
    usable_database,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """An open one."""
    database = Database(path)
    await database.start()
    await usable_database(database)
    yield database
    await database.close()
