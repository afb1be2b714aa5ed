"""The settings of TLS: the context that follows from them, and what is wrong or weak about the files."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.tls.settings import Tls, Unusable
from tests.support.certificates import Authority, Pair, replace

_NOBODY = 65534
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of these tests only."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """A good certificate."""
    return authority.issue("good")


def subjects(context: ssl.SSLContext) -> int:
    return len(context.get_ca_certs())


def test_what_is_named_is_trusted_and_nothing_else(authority: Authority) -> None:
    """The system's authorities, of which there are many, only where none is named."""
    assert subjects(Tls(cafile=str(authority.file)).context()) == 1
    pem = authority.file.read_text(encoding="ascii")
    assert subjects(Tls(cadata=pem).context()) == 1
    assert subjects(Tls(cadata=ssl.PEM_cert_to_DER_cert(pem)).context()) == 1
    assert subjects(Tls().context()) == subjects(ssl.create_default_context())


def test_certificate_and_name_are_verified_and_the_version_is_new() -> None:
    """Unless it is said otherwise; the version whatever is said."""
    context = Tls().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert Tls(minimum=ssl.TLSVersion.TLSv1_3).context().minimum_version is ssl.TLSVersion.TLSv1_3
    assert Tls(minimum=ssl.TLSVersion.TLSv1).context().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert not Tls(verifies_name=False).context().check_hostname
    assert Tls(verifies_name=False).context().verify_mode is ssl.CERT_REQUIRED
    assert Tls(verifies=False).context().verify_mode is ssl.CERT_NONE


def test_flags_and_ciphers() -> None:
    """As redis-py's options have them."""
    strict, partial = ssl.VerifyFlags.VERIFY_X509_STRICT, ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context = Tls(with_flags=[partial], without_flags=[strict], ciphers="ECDHE+AESGCM").context()
    assert partial in context.verify_flags
    assert strict not in context.verify_flags
    assert all("GCM" in each["name"] or "TLS_" in each["name"] for each in context.get_ciphers())
    assert Tls(ciphers="s3cr3t").mistakes() == ["ssl_ciphers names no cipher that OpenSSL knows here"]


def test_files_are_read_again_once_they_have_changed(authority: Authority, pair: Pair) -> None:
    """And not before: the system's authorities take long to read."""
    tls = Tls(cafile=str(authority.file), certfile=str(pair.cert), keyfile=str(pair.key))
    before = tls.context()
    assert tls.context() is before
    authority.issue("good")
    assert tls.context() is not before


def test_a_file_that_becomes_useless_is_told_of_and_one_that_becomes_good_is_used(
    authority: Authority, pair: Pair
) -> None:
    """In the middle of a rotation certificate and key may not belong together: the next attempt may do better."""
    tls = Tls(cafile=str(authority.file), certfile=str(pair.cert), keyfile=str(pair.key))
    tls.context()
    good = pair.key.read_bytes()
    replace(pair.key, authority.issue("other").key.read_bytes())
    with pytest.raises(Unusable, match="is not the key of the certificate in certfile"):
        tls.context()
    replace(pair.key, good)
    tls.context()


def test_without_mistakes(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Files, a directory as OpenSSL wants it, and one file for both certificate and key."""
    assert Tls(cafile=str(authority.file), certfile=str(pair.cert), keyfile=str(pair.key)).mistakes() == []
    (tmp_path / "12345678.0").write_bytes(authority.file.read_bytes())
    assert Tls(capath=str(tmp_path)).mistakes() == []
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    assert Tls(certfile=str(both)).mistakes() == []


def test_mistakes_name_the_file_and_what_is_wrong(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """All at once."""
    nothing, text = str(tmp_path / "nothing"), tmp_path / "text"
    text.write_text("no certificate", encoding="ascii")
    for tls, told in (
        (Tls(cafile=nothing), f"cafile {nothing}: No such file"),
        (Tls(cafile=str(text)), f"cafile {text} holds no certificate"),
        (Tls(cafile=str(tmp_path)), f"cafile {tmp_path}"),
        (Tls(capath=nothing), f"capath {nothing}: No such file"),
        (Tls(capath=str(tmp_path)), "openssl rehash"),
        (Tls(capath=str(text)), f"capath {text}: Not a directory"),
        (Tls(cadata="s3cr3t"), "cadata holds no certificate"),
        (Tls(cadata=b"s3cr3t"), "cadata holds no certificate"),
        (Tls(keyfile=str(pair.key)), "keyfile is of no use without certfile"),
        (Tls(certfile=nothing, keyfile=str(pair.key)), f"certfile {nothing}: "),
        (Tls(certfile=str(text), keyfile=str(pair.key)), f"certfile {text} holds no certificate"),
        (Tls(certfile=str(pair.cert), keyfile=nothing), f"keyfile {nothing}: No such file"),
        (Tls(certfile=str(pair.cert), keyfile=str(text)), f"keyfile {text} holds no private key"),
        (Tls(certfile=str(pair.cert)), f"certfile {pair.cert} holds no private key"),
        (Tls(certfile=str(pair.cert), keyfile=str(authority.issue("another").key)), "is not the key of"),
    ):
        (mistake,) = tls.mistakes()
        assert told in mistake
        assert "s3cr3t" not in mistake
    assert len(Tls(cafile=nothing, certfile=nothing).mistakes()) == 2


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """As somebody who may not read everything."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_file_that_may_not_be_read(pair: Pair) -> None:
    """Is told of as such."""
    pair.key.chmod(0)
    for tls in (Tls(certfile=str(pair.cert), keyfile=str(pair.key)), Tls(cafile=str(pair.key))):
        tls.mistakes()  # Whatever is imported late is imported by who may.
        with without_root():
            (mistake,) = tls.mistakes()
        assert "Permission denied" in mistake


def test_an_encrypted_key_never_asks_the_terminal(pair: Pair, tmp_path: Path) -> None:
    """Everything would wait for the answer. With its password it is used."""
    key = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:s3cr3t", "-out", key], check=True
    )
    (mistake,) = Tls(certfile=str(pair.cert), keyfile=str(key)).mistakes()
    assert "an encrypted one without its password" in mistake
    assert Tls(certfile=str(pair.cert), keyfile=str(key), password="s3cr3t").mistakes() == []


def test_what_ends_is_warned_of(authority: Authority) -> None:
    """30 days before, and afterwards."""
    now = NOW.timestamp()
    for days, told in {-1: ["has expired"], 10: ["expires in 9 days"], 40: []}.items():
        pair = authority.issue("ending", ends=NOW + dt.timedelta(days=days))
        found = Tls(cafile=str(authority.file), certfile=str(pair.cert), keyfile=str(pair.key)).warnings(now)
        assert len(found) == len(told)
        for warning, words in zip(found, told, strict=True):
            assert f"certfile {pair.cert} {words}" in warning


def test_an_authority_that_ends_is_warned_of_unless_its_successor_is_there(
    authority: Authority, tmp_path: Path
) -> None:
    """While one is being replaced the file holds both."""
    old = tmp_path / "old.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=old", "-days", "2"),
            *("-keyout", tmp_path / "old.key", "-out", old),
        ],
        check=True,
        capture_output=True,
    )
    (warning,) = Tls(cafile=str(old)).warnings(NOW.timestamp())
    assert f"cafile {old} expires in 2 days" in warning
    both = tmp_path / "both.pem"
    both.write_bytes(old.read_bytes() + authority.file.read_bytes())
    assert Tls(cafile=str(both)).warnings(NOW.timestamp()) == []


def test_what_is_not_verified_is_warned_of() -> None:
    """It is never off in silence."""
    (warning,) = Tls(verifies=False).warnings(0)
    assert "certificate is not verified" in warning
    (warning,) = Tls(verifies_name=False).warnings(0)
    assert "name in the server's certificate is not verified" in warning


def test_no_secret_is_in_the_repr() -> None:
    """Whoever logs the settings logs no password."""
    assert "s3cr3t" not in repr(Tls(password="s3cr3t", cadata="s3cr3t"))
