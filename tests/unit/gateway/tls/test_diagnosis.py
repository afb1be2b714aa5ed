"""What is told of a failed attempt; what real servers do is in the integration tests."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from gateway.tls.diagnosis import diagnosis, ended, silent
from gateway.tls.settings import Tls, Unusable

WITH_CERTIFICATE = Tls(certfile="/own.pem")


def verification(code: int, message: str = "some words") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "s3cr3t")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "tls", "told"),
    [
        (verification(62, "not valid for 'h'."), Tls(), "is for another name: not valid for 'h'. Write"),
        (verification(64), Tls(), "is for another name"),
        (verification(10), Tls(), "has expired"),
        (verification(9), Tls(), "is not valid yet"),
        (verification(18), Tls(), "is not known to this system"),
        (verification(20), Tls(cafile="/ca.pem"), "is not in /ca.pem"),
        (verification(21), Tls(capath="/ca"), "is not in /ca"),
        (verification(94), Tls(), "cannot be verified: some words"),
        (alert("WRONG_VERSION_NUMBER"), Tls(), "does not speak TLS on this port"),
        (alert("TLSV1_ALERT_PROTOCOL_VERSION"), Tls(), "no version of TLS"),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Tls(), "wants a client certificate"),
        (alert("SSLV3_ALERT_HANDSHAKE_FAILURE"), Tls(), "wants a client certificate"),
        (
            alert("TLSV1_ALERT_UNKNOWN_CA"),
            WITH_CERTIFICATE,
            "refuses the certificate in certfile /own.pem: its auth",
        ),
        (alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"), WITH_CERTIFICATE, "it has expired"),
        (alert("SOMETHING_ELSE"), Tls(), "TLS with the server failed: SOMETHING_ELSE"),
        (Unusable("cafile /x: gone"), Tls(), "cafile /x: gone"),
        (ConnectionResetError(104, "reset"), Tls(), "wants a client certificate"),
        (
            asyncio.IncompleteReadError(b"", 1),
            WITH_CERTIFICATE,
            "refuses the certificate in certfile /own.pem",
        ),
        (BrokenPipeError(), None, "speaks nothing but TLS"),
    ],
)
def test_what_is_wrong_and_what_to_do(error: Exception, tls: Tls | None, told: str) -> None:
    """However deep it lies under what a library has made of it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError from inner
    except RuntimeError as outer:
        said = diagnosis(outer, tls)
    assert said is not None
    assert told in said
    assert "s3cr3t" not in said


def test_what_is_no_matter_of_tls() -> None:
    """Is left to those who know it."""
    for tls in (None, Tls()):
        assert diagnosis(ConnectionRefusedError(111, "refused"), tls) is None
        assert diagnosis(ValueError("x"), tls) is None


def test_causes_that_lead_in_a_circle() -> None:
    """As aiormq's may, which once filled the memory."""
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert diagnosis(one, None) is None


def test_each_hint_is_for_how_it_was_tried() -> None:
    """Without TLS, with it, and with a certificate."""
    assert "nothing but TLS" in ended(None)
    assert "wants a client certificate" in ended(Tls())
    assert "refuses the certificate" in ended(WITH_CERTIFICATE)
    assert "speaks nothing but TLS" in silent(None)
    assert "speaks TLS" in silent(Tls())
