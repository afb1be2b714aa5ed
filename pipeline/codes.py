"""The error codes of the contract, each with its HTTP status and words that say what to do next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One error code; an operator's own stage may bring codes of its own.

    ``is_verdict`` marks an answer to this very payload, which is stored for replay under an Idempotency-Key. The others
    are of the moment: a retry must be able to succeed.
    """

    name: str
    status: int
    message: str
    is_verdict: bool = False


UNAUTHORIZED = Code(
    "UNAUTHORIZED",
    401,
    "No active client has this API key. Send a valid key in the header API-Key.",
)
INVALID_PAYLOAD = Code(
    "INVALID_PAYLOAD",
    422,
    "The body is not a valid request; details.errors says what to change.",
    is_verdict=True,
)
UNKNOWN_PROVIDER = Code(
    "UNKNOWN_PROVIDER",
    422,
    "The request names an unknown provider; details lists the allowed names.",
    is_verdict=True,
)
PROVIDER_DISABLED = Code(
    "PROVIDER_DISABLED",
    409,
    "The provider asked for is disabled. Ask for another, or for none.",
)
ALL_PROVIDERS_DISABLED = Code(
    "ALL_PROVIDERS_DISABLED",
    409,
    "All providers asked for are disabled. Ask for others, or for none.",
)
NO_PROVIDER_AVAILABLE = Code(
    "NO_PROVIDER_AVAILABLE",
    503,
    "No provider is usable at present. Nothing was sent; try again later.",
)
TOO_MANY_REQUESTS = Code(
    "TOO_MANY_REQUESTS",
    429,
    "The daily quota is used up. Try again after the reset, at 00:00 UTC.",
)
INVALID_IDEMPOTENCY_KEY = Code(
    "INVALID_IDEMPOTENCY_KEY",
    400,
    "Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in quotes.",
)
IDEMPOTENCY_KEY_REUSED = Code(
    "IDEMPOTENCY_KEY_REUSED",
    422,
    "This Idempotency-Key was used with another payload; details.first says what became of that one. "
    "Use a new key for a new message.",
)
IDEMPOTENCY_IN_PROGRESS = Code(
    "IDEMPOTENCY_IN_PROGRESS",
    409,
    "A request with this Idempotency-Key is being processed. Try again to get its answer.",
)
OUTCOME_UNKNOWN = Code(
    "OUTCOME_UNKNOWN",
    503,
    "The message may have been stored, but no confirmation came. "
    "Retrying with the same Idempotency-Key is safe; without a key, a retry may send twice.",
)
SERVICE_UNAVAILABLE = Code(
    "SERVICE_UNAVAILABLE",
    503,
    "The gateway cannot take messages at present. Nothing was sent; try again later.",
)
PAYLOAD_TOO_LARGE = Code(
    "PAYLOAD_TOO_LARGE",
    413,
    "The body is larger than 16 KiB.",
)
UNSUPPORTED_MEDIA_TYPE = Code(
    "UNSUPPORTED_MEDIA_TYPE",
    415,
    "The body must be JSON, not compressed: send Content-Type: application/json and no Content-Encoding.",
)
REQUEST_TIMEOUT = Code(
    "REQUEST_TIMEOUT",
    408,
    "The body did not arrive in time.",
)
NOT_FOUND = Code(
    "NOT_FOUND",
    404,
    "There is nothing at this path. Messages are sent with POST /api/v1/sms/send.",
)
METHOD_NOT_ALLOWED = Code(
    "METHOD_NOT_ALLOWED",
    405,
    "This path does not take this method; the header Allow names those it takes.",
)
BAD_REQUEST = Code(
    "BAD_REQUEST",
    400,
    "What arrived is no HTTP request. Send HTTP/1.1, with a head of at most 64 KiB.",
)
INTERNAL_ERROR = Code(
    "INTERNAL_ERROR",
    500,
    "The gateway failed at this request. Nothing was sent; its operators find the cause by tracking_id.",
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Code))
"""Every code above."""
