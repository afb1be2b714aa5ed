"""API keys as they are configured: what may stand for one, its digest, and a new one. None is ever shown."""

from __future__ import annotations

import hashlib
import re
import secrets

DIGEST = "sha256:"
"""With this begins what stands in the place of a key: its SHA-256, in hex."""

_PREFIX = "sms_"
_MADE_HERE = re.compile(rf"{_PREFIX}[\w-]{{43}}", re.ASCII)
_FORM = f"must be 1 to 255 visible ASCII characters, or '{DIGEST}' and 64 lower-case hex digits"
_KEY = re.compile(r"[!-~]{1,255}")
_OURS = re.compile(rf"{DIGEST}[0-9a-f]{{64}}")

# What makes of a key something that cannot be sent: hashes of passwords among them, whose key is not to be had.
_NAMES = (
    r"s?sha[-_/]?(?:[123][-_/]?)?(?:224|256|384|512)?|md[-_]?[2456]|blake[23][a-z0-9-]*|ripemd[-_]?[0-9]*|hmac[-_a-z0-9]*"
    r"|(?:b|s|yes)?crypt|argon2[a-z]*|pbkdf2[-_a-z0-9]*|digest|hash"
)
_NAMED = re.compile(rf"[{{$(]?(?:{_NAMES})[:=$)}}].*", re.IGNORECASE)
_CRYPT = re.compile(r"\$[0-9a-z-]{1,20}\$.*", re.IGNORECASE)
# As long as those of SHA-256, SHA-384 and SHA-512. Shorter ones are more often keys, such as a UUID.
_BARE = re.compile(r"(?:0x)?(?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})", re.IGNORECASE)


def mistake(configured: str) -> str | None:
    """What is wrong with what stands for an API key; None for nothing."""
    if _OURS.fullmatch(configured):
        return None
    if not _KEY.fullmatch(configured) or configured.startswith(DIGEST):
        return f"the API key {_FORM}"
    if (
        _NAMED.fullmatch(configured)
        or _CRYPT.fullmatch(configured)
        or _BARE.fullmatch(re.sub("[:-]", "", configured))
    ):
        return (
            f"the API key looks like a digest. If it is one, write '{DIGEST}' and the 64 lower-case hex digits of the "
            "key's SHA-256; if it is the key itself, replace it by one that 'sms-gateway key new' makes"
        )
    return None


def digest(configured: str) -> bytes:
    """The SHA-256 of the key that stands here as itself or as its digest; what stands here has no mistake."""
    if configured.startswith(DIGEST):
        return bytes.fromhex(configured.removeprefix(DIGEST))
    return hashlib.sha256(configured.encode()).digest()


def new() -> tuple[str, str]:
    """A fresh API key of 256 random bits, and the form in which it is configured."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, DIGEST + digest(key).hex()


def is_made_here(text: str) -> bool:
    """Whether ``text`` is a key as ``new`` makes them: where a name is to stand, it is misplaced."""
    return _MADE_HERE.fullmatch(text) is not None
