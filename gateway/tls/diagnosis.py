"""What an operator is told of an attempt to connect that failed over TLS, in the place of OpenSSL's words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from gateway.tls.settings import Tls, Unusable

# Codes of OpenSSL's verification (openssl/x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
_ANOTHER_NAME = {62, 64}

# What a peer that speaks no TLS looks like, by the versions of OpenSSL.
_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "UNKNOWN_PROTOCOL",
}
_OTHER_VERSION = {
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "VERSION_TOO_LOW",
    "NO_PROTOCOLS_AVAILABLE",
}
# Alerts of a server: it wants a certificate and has none, or does not take the one that it has.
_WANTS_ONE = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
_REFUSES_IT = {
    "TLSV1_ALERT_UNKNOWN_CA": "its authority is unknown there",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is not a good one",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is not one for clients",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not say why",
    "TLSV1_ALERT_ACCESS_DENIED": "it may not come in",
    "TLSV1_ALERT_DECRYPT_ERROR": "its signature is wrong",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it does not say why",
}
# Where a server resets the connection, its alert may be lost.
_ENDED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, EOFError)


def diagnosis(error: BaseException, tls: Tls | None) -> str | None:
    """What is wrong with an attempt to connect and what to do; None where it is no matter of TLS. Holds no secret.

    ``tls`` is how the connection was to be opened; None for one without TLS.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, Unusable):
            return str(cause)
        if tls and isinstance(cause, ssl.SSLCertVerificationError):
            return _of_verification(cause, tls)
        if tls and isinstance(cause, ssl.SSLError):
            return _of_openssl(cause, tls)
    if any(isinstance(cause, _ENDED) for cause in causes):
        return ended(tls)
    return None


def ended(tls: Tls | None) -> str:
    """What to look at when the other side has closed the connection before it said anything."""
    closed = "the server, or a proxy before it, closed the connection before it answered"
    if tls is None:
        return f"{closed}: see whether it speaks nothing but TLS on this port, for which the URL begins otherwise"
    if tls.certfile is None:
        return f"{closed}: see whether it wants a client certificate, which certfile and keyfile name"
    return f"{closed}: its log says whether it refuses the certificate in certfile {tls.certfile}"


def silent(tls: Tls | None) -> str:
    """What else to look at when the other side says nothing."""
    return f", and whether it speaks {'TLS' if tls else 'nothing but TLS'} on this port"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from or instead of, and so on; that may lead in a circle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _of_verification(error: ssl.SSLCertVerificationError, tls: Tls) -> str:
    code = error.verify_code
    if code in _ANOTHER_NAME:
        return (
            f"the server's certificate is for another name: {error.verify_message.rstrip('.')}. Write the name that "
            "stands in it into the URL, or give the server a certificate for this one"
        )
    if code in _UNKNOWN_AUTHORITY:
        known = tls.cafile or tls.capath
        where = f"is not in {known}" if known else "is not known to this system"
        return (
            f"the authority of the server's certificate {where}: have the URL name its certificate by cafile "
            f"({error.verify_message})"
        )
    if code == _EXPIRED:
        return (
            "the server's certificate, or its authority's, has expired: replace it, and see whether this machine's "
            "clock is right"
        )
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet: see whether this machine's clock is right"
    return f"the server's certificate cannot be verified: {error.verify_message}"


def _of_openssl(error: ssl.SSLError, tls: Tls) -> str:
    reason = error.reason or ""
    if reason in _NO_TLS:
        return "the server does not speak TLS on this port: name its TLS port, or have it speak TLS"
    if reason in _OTHER_VERSION:
        return "the server speaks no version of TLS that is spoken here, 1.2 or later: have it do so"
    if reason == _WANTS_ONE or (reason in _REFUSES_IT and tls.certfile is None):
        return "the server wants a client certificate: have the URL name one by certfile and keyfile"
    if reason in _REFUSES_IT:
        return (
            f"the server refuses the certificate in certfile {tls.certfile}: {_REFUSES_IT[reason]}. Give the gateway "
            "one that the server accepts, or have it know the authority"
        )
    return f"TLS with the server failed: {reason or type(error).__name__}"
