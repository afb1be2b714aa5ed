"""What may stand for an API key."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import api_keys
from schemas import load

HEX = hashlib.sha256(b"s3cr3t").hexdigest()


@pytest.mark.parametrize(
    "key",
    [
        *("a", "!" * 255, "~", "sha256", "sharp:knife", "user:password", "hashes-of-x", "md", "$ecret"),
        *(uuid.UUID(int=5).hex, str(uuid.UUID(int=5)), HEX[:32], HEX[:40]),
        *(HEX[1:], HEX + "0", "g" + HEX[1:], "sms-" + HEX, f"sha256:{HEX}"),
        *(base64.b64encode(bytes(32)).decode(), "sms_" + "x" * 43),
    ],
)  # fmt: skip
def test_what_can_be_sent_can_be_configured(key: str) -> None:
    """Any visible ASCII, and the one form of a digest."""
    assert api_keys.mistake(key) is None


@pytest.mark.parametrize(
    "key",
    [
        *("", "!" * 256, "a b", " a", "a ", "\ta", "a\n", "a\tb", "a\0", "\x7f", "é", "\u200ba", "\uff41"),
        *("sha256:", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"sha256: {HEX}"),
        f"sha256:{HEX}\n",
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_header_can_carry_is_a_mistake(key: str) -> None:
    """It would silently let nobody in; so would half a digest."""
    told = api_keys.mistake(key)
    assert told == (
        "the API key must be 1 to 255 visible ASCII characters, or 'sha256:' and 64 lower-case hex digits"
    )


@pytest.mark.parametrize(
    "key",
    [
        *(f"{name}:{HEX}" for name in ("SHA256", "Sha256", "sha-256", "SHA-256", "sha_256", "sha2-256", "sha")),
        *(f"sha256{between}{HEX}" for between in "=$"),
        *(HEX, HEX.upper(), f"0x{HEX}", ":".join(HEX[i : i + 2] for i in range(0, 64, 2)).upper()),
        *(hashlib.sha512(b"x").hexdigest(), hashlib.sha384(b"x").hexdigest(), f"sha512:{HEX * 2}", f"sha1:{HEX}"),
        *("md5:900150983cd24fb0d6963f7d28e17f72", "{SSHA}x", "{SHA256}x", "blake2b:00", "blake3=00", "ripemd160:0"),
        *("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "$6$salt$x", "$argon2id$v=19$x", "$1$x"),
        *("bcrypt:x", "scrypt:x", "argon2id:x", "pbkdf2_sha256$260000$x", "hmac-sha256:x", "hash:x", "digest=x"),
    ],
)  # fmt: skip
def test_what_looks_like_a_digest_is_a_mistake(key: str) -> None:
    """As a key it would make of the digest, which lies in configurations, what lets one in. Both ways out are told."""
    told = api_keys.mistake(key)
    assert told is not None
    assert "write 'sha256:' and the 64 lower-case hex digits" in told
    assert "'sms-gateway key new'" in told
    assert key not in told


@given(st.binary(max_size=64).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")) | st.text())
def test_what_the_schema_refuses_is_a_mistake(key: str) -> None:
    """Whoever reads only the schema is told no more mistakes than the gateway tells."""
    if not load("clients").is_valid({key: {"name": "acme"}}):
        assert api_keys.mistake(key) is not None


@given(st.integers(16, 48).map(secrets.token_urlsafe))
def test_keys_at_random_are_keys(key: str) -> None:
    """As programs make them."""
    assert api_keys.mistake(key) is None


def test_a_new_key_is_told_from_names() -> None:
    """By its form, and its digest is that of both ways to write it."""
    key, configured = api_keys.new()
    assert api_keys.is_made_here(key)
    assert api_keys.digest(key) == api_keys.digest(configured) == hashlib.sha256(key.encode()).digest()
    for name in ("acme", "sms_", key + "x", f"x{key}", configured, "sms_" + "é" * 43):
        assert not api_keys.is_made_here(name)
