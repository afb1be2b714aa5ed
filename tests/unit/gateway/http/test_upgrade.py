"""What is changed of a packet with an offer to upgrade."""

from __future__ import annotations

import pytest

from gateway.http.upgrade import pass_over

HEAD = b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 12\r\n\r\n"


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_an_offer_becomes_a_header_that_nobody_knows(name: bytes) -> None:
    """In any spelling."""
    offered = HEAD.replace(b"Upgrade:", name + b":")
    assert pass_over(offered) == HEAD.replace(b"\r\nUpgrade:", b"\r\nx-passed-over:")


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n\r\nupgrade: x",
        b"POST / HTTP/1.1\nContent-Length: 12\n\n\r\nupgrade: x\r\n\r\n",
        b"POST /?a=upgrade:b HTTP/1.1\r\nX-Upgrade: a\r\n\r\n",
        b"",
    ],
    ids=["a body", "a head that may end elsewhere", "no offer", "nothing"],
)
def test_everything_else_stays_as_it_is(data: bytes) -> None:
    """A body that grew would end in a request of its own."""
    assert pass_over(data) == data
