"""Whom to trust and what to show on a TLS connection, as the URL of a server says it."""

from __future__ import annotations

import _ssl
import os
import re
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SOON_SECONDS = 30 * 86_400
"""A certificate that ends within this time is warned of."""

OLDEST = ssl.TLSVersion.TLSv1_2
"""No older version of TLS is spoken, whatever the system allows."""

# What `openssl rehash` calls the certificates in a directory, without which OpenSSL does not find them.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")

_Stamp = tuple[tuple[int, ...] | None, ...]


class Unusable(OSError):
    """A certificate or a key that cannot be used. The text names the file, and says why and what to do."""


@dataclass(slots=True)
class Tls:
    """The settings of TLS to one server, and the context that follows from them.

    ``cafile`` and ``capath`` name the authorities that are trusted, in PEM; ``cadata`` is such, in PEM, or as bytes in
    DER. With any of them no other is trusted; without, those of the system are. ``certfile`` and ``keyfile`` are what
    the gateway shows to a server that asks: its certificate with the chain, and the key, which may lie in ``certfile``
    too, and be encrypted with ``password``.
    """

    cafile: str | None = None
    capath: str | None = None
    cadata: str | bytes | None = field(default=None, repr=False)
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = field(default=None, repr=False)
    verifies: bool = True
    verifies_name: bool = True
    minimum: ssl.TLSVersion = OLDEST
    ciphers: str | None = None
    with_flags: Collection[ssl.VerifyFlags] = ()
    without_flags: Collection[ssl.VerifyFlags] = ()
    _made: tuple[_Stamp, ssl.SSLContext] | None = field(default=None, init=False, repr=False, compare=False)

    def context(self) -> ssl.SSLContext:
        """For a new connection. Raises ``Unusable``.

        It is made anew once a file has changed: that is how certificates are replaced while the gateway runs. It is
        kept otherwise, since the system's authorities take up to 0.2 s to read.
        """
        stamp = self._stamp()
        if self._made is None or self._made[0] != stamp:
            context = self._trusting()
            self._show(context)
            self._made = stamp, context
        return self._made[1]

    def mistakes(self) -> list[str]:
        """What is wrong with the files, as they are now."""
        found = []
        try:
            self._trusting()
        except Unusable as error:
            found.append(str(error))
        try:
            self._show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except Unusable as error:
            found.append(str(error))
        return found

    def warnings(self, now_seconds: float) -> list[str]:
        """What is weak, and which certificates end soon or have ended at ``now_seconds`` (Unix time).

        For settings without mistakes.
        """
        found = []
        if not self.verifies:
            found.append(
                "the server's certificate is not verified, so whoever sits in between can read and change everything: "
                "name its authority by cafile instead"
            )
        elif not self.verifies_name:
            found.append(
                "the name in the server's certificate is not verified, so any server of the same authority can take "
                "its place: give it a certificate for the name in the URL instead"
            )
        for what, end in self._ends():
            if end <= now_seconds:
                found.append(f"{what} has expired: replace it, and new connections take the new one")
            elif end <= now_seconds + SOON_SECONDS:
                days = int(end - now_seconds) // 86_400
                found.append(
                    f"{what} expires in {days} days: replace it, and new connections take the new one"
                )
        return found

    def _ends(self) -> Iterator[tuple[str, float]]:
        if self.certfile:
            yield f"certfile {self.certfile}", ssl.cert_time_to_seconds(_first(self.certfile)["notAfter"])
        if self.cafile:
            authorities = Tls(cafile=self.cafile).context().get_ca_certs()
            # While an authority is being replaced the file holds the old one beside the new one.
            last = max((ssl.cert_time_to_seconds(str(one["notAfter"])) for one in authorities), default=None)
            if last is not None:
                yield f"cafile {self.cafile}", last

    def _trusting(self) -> ssl.SSLContext:
        if self.capath:
            with _reading("capath", self.capath, "cannot be read"):
                if not any(_HASHED.fullmatch(path.name) for path in Path(self.capath).iterdir()):
                    raise Unusable(
                        f"capath {self.capath} holds no certificate under a name that OpenSSL looks for: run "
                        "`openssl rehash` on it, or write cafile for a single file"
                    )
        with _reading(*_given(cafile=self.cafile, cadata=self.cadata), "holds no certificate in PEM"):
            context = ssl.create_default_context(cafile=self.cafile, capath=self.capath, cadata=self.cadata)
        context.check_hostname = self.verifies and self.verifies_name
        context.verify_mode = ssl.CERT_REQUIRED if self.verifies else ssl.CERT_NONE
        context.minimum_version = max(context.minimum_version, self.minimum, OLDEST)
        for flag in self.with_flags:
            context.verify_flags |= flag
        for flag in self.without_flags:
            context.verify_flags &= ~flag
        if self.ciphers:
            with _reading("ssl_ciphers", "", "names no cipher that OpenSSL knows here"):
                context.set_ciphers(self.ciphers)
        return context

    def _show(self, context: ssl.SSLContext) -> None:
        if self.certfile is None:
            if self.keyfile is not None:
                raise Unusable(
                    "keyfile is of no use without certfile, which names the certificate for the key"
                )
            return
        with _reading("certfile", self.certfile, "holds no certificate in PEM"):
            _first(self.certfile)
        what, path = _given(keyfile=self.keyfile, certfile=self.certfile)
        with _reading(what, path, "holds no private key in PEM, or an encrypted one without its password"):
            os.close(os.open(path, os.O_RDONLY))
            # Never none: OpenSSL would ask the terminal, and everything would wait for the answer.
            context.load_cert_chain(self.certfile, self.keyfile, self.password or "")

    def _stamp(self) -> _Stamp:
        system = ssl.get_default_verify_paths()
        is_own = self.cafile or self.capath or self.cadata
        authorities = (self.cafile, self.capath) if is_own else (system.cafile, system.capath)
        return tuple(map(_content, (*authorities, self.certfile, self.keyfile)))


def _content(path: str | None) -> tuple[int, ...] | None:
    """What tells this content of a file or a directory from another."""
    try:
        known = Path(path).stat() if path else None
    except OSError:
        return None
    return known and (known.st_ino, known.st_size, known.st_mtime_ns)


def _first(path: str) -> dict[str, str]:
    """The fields of the first certificate in a file. The standard library reads one in no other way."""
    os.close(os.open(path, os.O_RDONLY))  # Who cannot is told why.
    fields: dict[str, str] = _ssl._test_decode_cert(path)  # type: ignore[attr-defined]  # noqa: SLF001
    return fields


def _given(**named: str | bytes | None) -> tuple[str, str]:
    """The first of these that is given, and the path that it names."""
    for what, path in named.items():
        if path:
            return what, path if isinstance(path, str) and what != "cadata" else ""
    return "cafile", ""


@contextmanager
def _reading(what: str, path: str, otherwise: str) -> Iterator[None]:
    """Say of an error in reading this what an operator needs to know of it."""
    try:
        yield
    except Unusable:
        raise
    except ssl.SSLError as error:
        named = f"{what} {path}".strip()
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise Unusable(
                f"{named} is not the key of the certificate in certfile: they belong together"
            ) from None
        raise Unusable(f"{named} {otherwise}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else otherwise
        raise Unusable(
            f"{f'{what} {path}'.strip()}: {reason}: see whether the path is right, and whether the gateway's user may "
            "read it"
        ) from None
