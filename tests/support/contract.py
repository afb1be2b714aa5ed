"""The contract's table of errors, for those who judge the product: written down here, never read from it."""

STATUS = {
    "UNAUTHORIZED": 401,
    "INVALID_PAYLOAD": 422,
    "UNKNOWN_PROVIDER": 422,
    "PROVIDER_DISABLED": 409,
    "ALL_PROVIDERS_DISABLED": 409,
    "NO_PROVIDER_AVAILABLE": 503,
    "TOO_MANY_REQUESTS": 429,
    "INVALID_IDEMPOTENCY_KEY": 400,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "IDEMPOTENCY_IN_PROGRESS": 409,
    "OUTCOME_UNKNOWN": 503,
    "SERVICE_UNAVAILABLE": 503,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "REQUEST_TIMEOUT": 408,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    # For what is no HTTP request, and so none of the table's.
    "BAD_REQUEST": 400,
    "INTERNAL_ERROR": 500,
}
"""The HTTP status of each error code."""
