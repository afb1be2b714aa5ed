"""Every key that the gateway writes to Redis.

All keys of one client hold its name as hash tag, so they lie in one slot and one script may touch them all. None
holds an API key or an Idempotency-Key.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from datetime import date
from functools import lru_cache

# Braces would end the hash tag early or start another one; a space needs quoting wherever a person types the key.
# The rest stays as it is: a name in Persian must not grow threefold in every record.
_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%{} "})

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Keys:
    """Builds them.

    Raises ``ValueError`` for a quota prefix with a brace: it would shadow the client's hash tag.
    """

    def __init__(self, quota_prefix: str) -> None:
        if "{" in quota_prefix or "}" in quota_prefix:
            raise ValueError("the quota prefix must not contain '{' or '}'")
        self._quota_prefix = quota_prefix

    def claim(self, client: str, key: str) -> bytes:
        """The record of ``client``'s Idempotency-Key, by the first 16 bytes of the key's SHA-256."""
        return _claim(client, key)

    def counters(self, client: str) -> bytes:
        """What the key of each of ``client``'s counters begins with; the day follows, or the period of refusals."""
        return _under(self._quota_prefix, client)

    def counter(self, client: str, day: date) -> bytes:
        """The counter of ``client``'s messages on ``day``."""
        return self.counters(client) + day.isoformat().encode()

    def reservation(self, client: str, token: str) -> bytes:
        """The note that a message without an Idempotency-Key was counted, or was given back."""
        return self.counters(client) + f"r:{token}".encode()


# The steps of one request follow one another.
@lru_cache(maxsize=1024)
def _claim(client: str, key: str) -> bytes:
    digest = hashlib.sha256(key.encode()).digest()[:16]
    # base64url (RFC 4648, 5) without its padding.
    return _under("claim", client) + b2a_base64(digest, newline=False)[:22].translate(_URL_SAFE)


# Clients are configured, so there are only so many.
@lru_cache(maxsize=4096)
def _under(prefix: str, client: str) -> bytes:
    return f"{prefix}:{{{client.translate(_ESCAPES)}}}:".encode()
