"""What a stage does when the store fails it: refuse the request, or serve it without what the store does for it."""

from __future__ import annotations

from pipeline import codes
from pipeline.context import Context
from pipeline.failures import Refused
from pipeline.ports import StoreUnavailable, Telemetry

REJECT = "reject"
ALLOW = "allow"


class StorePolicy:
    """One stage's ``on_store_error``. Raises ``ValueError`` for any other word than ``reject`` and ``allow``."""

    def __init__(self, stage: str, on_store_error: str, telemetry: Telemetry) -> None:
        if on_store_error not in (REJECT, ALLOW):
            raise ValueError(f"on_store_error must be '{REJECT}' or '{ALLOW}'")
        self.stage = stage
        self.rejects = on_store_error == REJECT
        self.telemetry = telemetry

    def judge(self, context: Context, operation: str, error: StoreUnavailable) -> None:
        """Refuse the request, or note that it is served without this step."""
        if self.rejects:
            raise Refused(codes.SERVICE_UNAVAILABLE, retry_after=1) from error
        self.note(context, operation, error)

    def note(self, context: Context, operation: str, error: Exception) -> None:
        """Log and count a failed step that does not change the answer any more."""
        self.telemetry.store_failed(context, self.stage, operation, error)
