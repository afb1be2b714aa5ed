"""The clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """Implements ``pipeline.ports.Clock``."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)
