"""What is asked of a head besides what the parser asks."""

from __future__ import annotations

import pytest

from gateway.http.head import MalformedHead, check_host, check_transfer_coding, check_whole


@pytest.mark.parametrize(
    "host",
    [
        b"x",
        b"gateway.internal",
        b"server_a:8000",
        b"127.0.0.1:",
        b"[::1]:8000",
        b"[fe80::1]",
        b"a%C3%A4",
        b"EXAMPLE.",
        b"a,b",
        b" x\t",
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(host: bytes) -> None:
    """All that RFC 3986 calls one, with white space around it."""
    check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b" ", b":8000", b"a b", b"a/b", b"user@a", b"a:b", b"a:1:2", b"::1", b"[::1", b"[]", b"a\n"),
        *(b"http://a", b"a?b", b"a#b", b"a%", b"a%zz", b"caf\xc3\xa9", b"a\\b", b"<a>", b"a\x00", b'"a"'),
    ],
)  # fmt: skip
def test_what_names_no_host_is_refused(host: bytes) -> None:
    """Without repeating it."""
    with pytest.raises(
        MalformedHead, match=r"^The header Host must be a host, and a port where it has one\.$"
    ):
        check_host(host)


@pytest.mark.parametrize(
    ("coding", "version", "is_taken"),
    [
        (b"chunked", "1.1", True),
        (b"CHUNKED \t", "1.1", True),
        (b"gzip, chunked", "1.1", False),
        (b"chunked, chunked", "1.1", False),
        (b"identity", "1.1", False),
        (b"chunked;a=b", "1.1", False),
        (b"chunked", "1.0", False),
    ],
)
def test_chunked_is_the_only_coding(coding: bytes, version: str, is_taken: bool) -> None:
    """Another layer would be handed on as if it were the body."""
    if is_taken:
        check_transfer_coding(coding, version)
    else:
        with pytest.raises(MalformedHead):
            check_transfer_coding(coding, version)


@pytest.mark.parametrize("version", ["0.9", "1.0", "1.1", "2.0"])
@pytest.mark.parametrize("hosts", [0, 1, 2])
def test_a_head_has_a_version_that_is_served_and_one_host(version: str, hosts: int) -> None:
    """HTTP/1.0 knew no Host."""
    if (version, hosts) in {("1.1", 1), ("1.0", 1), ("1.0", 0)}:
        check_whole(version, hosts)
    else:
        with pytest.raises(MalformedHead):
            check_whole(version, hosts)
