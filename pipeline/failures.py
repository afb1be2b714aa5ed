"""Everything that is not a 202: two kinds of failure, and the one place that renders them.

    NotAccepted
    ├── Refused           nothing was published: what was taken is given back
    └── OutcomeUnknown    it may have been published: what was taken is kept

A stage raises; the boundary answers. What is no HTTP is refused before any boundary, by the server's protocol, and is
rendered here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from pipeline import codes
from pipeline.answer import Answer
from pipeline.codes import Code
from pipeline.timing.timestamps import OPTION, in_json


class NotAccepted(Exception):
    """An answer other than 202, on its way to the boundary.

    ``details`` goes into the body, ``retry_after`` (seconds, at least 1) and ``headers`` into the answer's head.
    """

    def __init__(
        self,
        code: Code,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.code = code
        self.message = message or code.message
        self.details = details
        self.retry_after = retry_after
        self.headers = headers
        self.stage: str | None = None
        self._answer: Answer | None = None

    def __str__(self) -> str:
        return self.code.name

    def answer(self, tracking_id: str, now: datetime) -> Answer:
        """The ErrorResponse, rendered at the first call: what was stored for replay is what is sent."""
        if self._answer is None:
            body = {
                "error_code": self.code.name,
                "message": self.message,
                "details": self.details,
                "tracking_id": tracking_id,
                "timestamp": in_json(now),
            }
            headers = self.headers
            if self.retry_after is not None:
                headers = (*headers, (b"retry-after", str(max(1, self.retry_after)).encode()))
            self._answer = Answer(self.code.status, orjson.dumps(body, option=OPTION), headers=headers)
        return self._answer


class Refused(NotAccepted):
    """Nothing was published."""


class OutcomeUnknown(NotAccepted):
    """The message may have been published."""

    def __init__(self) -> None:
        super().__init__(codes.OUTCOME_UNKNOWN, retry_after=1)
