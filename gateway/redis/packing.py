"""How an answer lies in a record: a 202 as its mark, which is short already, and a refusal deflated.

Redis keeps a hash in one piece while no value of it is longer than 64 bytes, and takes far more for it above that. So a
refusal is deflated (RFC 1951) against the words that most refusals consist of.
"""

from __future__ import annotations

import zlib

_DEFLATED = b"z1"

# Who changes a byte of them gives the new ones a mark of their own and keeps the old ones readable. They need not be
# those that are used today; the nearer they are to them, the shorter the records. The most frequent come last.
_WORDS = (
    b'","rule":"required"},{"path":"/text","message":"must have at most 1600 characters","rule":"maxLength"},'
    b'{"path":"/ttl_seconds","message":"must be of type integer","rule":"type"},'
    b'{"path":"/providers/0","message":"is required","rule":"required"},'
    b'{"path":"/to","message":"must be an E.164 number: \'+\', then 2 to 15 digits 0-9 of which the first is not 0, '
    b'and nothing else","rule":"pattern"}]},"tracking_id":"'
    b'409 application/json\n{"error_code":"ALL_PROVIDERS_DISABLED","message":"All providers asked for are disabled. '
    b'Ask for others, or for none.","details":{"providers":["'
    b'409 application/json\n{"error_code":"PROVIDER_DISABLED","message":"The provider asked for is disabled. '
    b'Ask for another, or for none.","details":{"providers":["'
    b'422 application/json\n{"error_code":"INVALID_PAYLOAD","message":"The body is not a valid request; '
    b'details.errors says what to change.","details":{"errors":[{"path":"'
    b'422 application/json\n{"error_code":"UNKNOWN_PROVIDER","message":"The request names an unknown provider; '
    b'details lists the allowed names.","details":{"unknown":["'
    b'"],"allowed":["'
    b'"]},"tracking_id":"","timestamp":"2026-01-01T00:00:00.000000Z"}'
)
# A window that holds the words, and as little memory as a stream can do with: setting it up is most of the work.
_WINDOW_BITS = -11
_MEMORY_LEVEL = 1
# Such an answer is in one piece with the rest of its record as it is.
_SHORT = 64


def pack(answer: bytes, tracking_id: str) -> bytes:
    """What lies in the record; ``answer`` is what ``Answer.pack`` gave."""
    if len(answer) <= _SHORT:
        return answer
    stream = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zdict=_words(tracking_id))
    return _DEFLATED + stream.compress(answer) + stream.flush()


def unpack(packed: bytes, tracking_id: str) -> bytes:
    """What ``pack`` was called on, with the same ``tracking_id``."""
    if not packed.startswith(_DEFLATED):
        return packed
    stream = zlib.decompressobj(_WINDOW_BITS, zdict=_words(tracking_id))
    return stream.decompress(packed[len(_DEFLATED) :])


def _words(tracking_id: str) -> bytes:
    # It stands in the answer, and the claim knows it.
    return _WORDS + tracking_id.encode()
