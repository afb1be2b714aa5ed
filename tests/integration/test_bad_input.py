"""Hostile and broken input: always an answer of the contract, never a 500, never a hang."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time

import pytest

import schemas
from tests.support.gateways import NUMBER, SEND, TEXT, Backend, Gateway, key_of, raw_connection, read_answer

HEAD = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAPI-Key: {key_of('acme')}\r\nContent-Type: application/json\r\n"
VALID = json.dumps({"to": NUMBER, "text": TEXT})

NOT_JSON = {
    "empty": b"",
    "white space": b"  \n",
    "not JSON": b"to=+989121234567",
    "cut off": b'{"to": "+989121234567", "text": "x"',
    "two documents": b"{}{}",
    "not UTF-8": b'{"to": "+989121234567", "text": "\xff\xfe"}',
    "UTF-16": VALID.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + VALID.encode(),
    "an unpaired surrogate": b'{"to": "+989121234567", "text": "\\ud800"}',
    "a raw NUL": b'{"to": "+989121234567", "text": "a\x00b"}',
    "NaN": b'{"to": "+989121234567", "text": "x", "ttl_seconds": NaN}',
    "deep arrays": b"[" * 8000 + b"]" * 8000,
    "deep objects": b'{"a":' * 2500 + b"1" + b"}" * 2500,
    "a member twice": b'{"to": "+989121234567", "text": "x", "to": "+989121234568"}',
    "a member twice, once escaped": b'{"to": "+989121234567", "text": "x", "t\\u006f": "+989121234568"}',
    "a deep member twice": b'{"to": "+989121234567", "text": "x", "z": [{"a": 1, "a": 2}]}',
    "a huge number": b'{"to": "+989121234567", "text": "x", "ttl_seconds": 1e999}',
    "a huge integer": b'{"to": "+989121234567", "text": "x", "ttl_seconds": ' + b"9" * 5000 + b"}",
    "many members": json.dumps({f"m{number}": number for number in range(900)}).encode(),
    "many wrong items": json.dumps({"to": NUMBER, "text": TEXT, "providers": [1] * 5000}).encode(),
    **{
        f"{depth} levels under {member}": b'{"%s": %s1%s}' % (member.encode(), b"[" * depth, b"]" * depth)
        for member in ("to", "text", "providers")
        for depth in (200, 600, 1000, 1020)
    },
}

# Where a gateway keeps its state does not matter to its time-outs, of which each takes the test as long.
once = pytest.mark.parametrize("shared", ["embedded"], indirect=True)


@pytest.mark.parametrize("name", NOT_JSON)
def test_a_broken_body_is_an_invalid_payload(gateway: Gateway, backend: Backend, name: str) -> None:
    """Whatever the body holds, the answer is 422, small, and without the caller's text."""
    headers = {"API-Key": key_of("acme"), "Content-Type": "application/json"}
    answer = gateway.http.post(SEND, content=NOT_JSON[name], headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (422, "INVALID_PAYLOAD"), answer.text
    assert answer.json()["details"]["errors"]
    assert len(answer.content) < 3000
    assert backend.take_all() == []


@pytest.mark.parametrize("name", NOT_JSON)
def test_a_broken_body_under_a_key_is_refused_and_replayed(gateway: Gateway, name: str) -> None:
    """An answer to the payload is kept even where the payload does not parse."""
    headers = {
        "API-Key": key_of("acme"),
        "Content-Type": "application/json",
        "Idempotency-Key": f"{gateway.port} {name}".replace(" ", "-"),
    }
    first, second = (gateway.http.post(SEND, content=NOT_JSON[name], headers=headers) for _ in range(2))
    assert first.status_code == 422
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)


def test_the_largest_body_is_read_and_one_byte_more_is_not(gateway: Gateway) -> None:
    """16 KiB is the limit, by the declared length."""
    headers = {"API-Key": key_of("acme"), "Content-Type": "application/json"}
    padded = VALID.encode().ljust(16 * 1024)
    assert gateway.http.post(SEND, content=padded, headers=headers).status_code == 202
    answer = gateway.http.post(SEND, content=padded + b" ", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_the_limit_holds_for_a_body_of_no_declared_length(gateway: Gateway) -> None:
    """A chunked body is counted while it streams in."""
    headers = {"API-Key": key_of("acme"), "Content-Type": "application/json"}
    answer = gateway.http.post(SEND, content=iter([VALID.encode(), b" " * 1000]), headers=headers)
    assert answer.status_code == 202
    answer = gateway.http.post(SEND, content=iter([b" " * 1024] * 17), headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_an_endless_body_is_cut_off(gateway: Gateway) -> None:
    """Who announces a GiB is answered after a small part of it, and the connection ends."""
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Content-Length: {1 << 30}\r\n\r\n".encode())
        sent = 0
        try:
            while sent < 1 << 28:
                sent += connection.send(b" " * 65536)
        except OSError:
            pass
        assert sent < 1 << 26


def test_who_asks_before_sending_too_much_is_refused_at_once(gateway: Gateway) -> None:
    """``Expect: 100-continue`` with too great a length gets its 413 before a byte of the body."""
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: 20000\r\n\r\n".encode())
        status, headers, _ = read_answer(connection)
        assert status == 413
        assert headers["connection"] == "close"


@once
def test_a_body_that_does_not_arrive_times_out(gateway: Gateway) -> None:
    """A body a byte a second is given up after 10 s with 408."""
    with raw_connection(gateway, seconds=30) as connection:
        connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n".encode())
        connection.settimeout(0.5)
        answers: list[tuple[int, dict[str, str], bytes]] = []
        deadline = time.monotonic() + 30
        while not answers and time.monotonic() < deadline:
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answers.append(read_answer(connection))
        ((status, headers, body),) = answers
        assert status == 408
        assert json.loads(body)["error_code"] == "REQUEST_TIMEOUT"
        assert headers["connection"] == "close"


def test_a_client_that_leaves_in_mid_body_is_only_logged(gateway: Gateway, backend: Backend) -> None:
    """A body that never ends because its client went away is no message and no error of ours."""
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert gateway.send().status_code == 202
    assert len(backend.take_all()) == 1
    assert "INTERNAL_ERROR" not in gateway.log_text()


def test_who_closes_their_side_after_the_request_is_answered(gateway: Gateway, backend: Backend) -> None:
    """As ``nc -N`` and some HTTP/1.0 tools do; with the answer the connection ends."""
    body = VALID.encode()
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        status, _, answer = read_answer(connection)
        assert connection.recv(1) == b""
    assert status == 202
    (envelope,) = backend.take_all()
    assert json.loads(answer)["tracking_id"] == envelope["tracking_id"]


def test_who_closes_their_side_in_mid_body_is_let_go(gateway: Gateway, backend: Backend) -> None:
    """The body never becomes whole: the connection is closed at once, and nothing is sent."""
    with raw_connection(gateway, seconds=8) as connection:
        connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert backend.take_all() == []


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"API-Key", b"\xff\xfe", 401),
        (b"API-Key", b"x" * 8000, 401),
        (b"Idempotency-Key", b"\xff", 400),
        (b"Idempotency-Key", b'"\\"', 400),
        (b"Content-Type", b"\xff/\xfe", 415),
        (b"X-Unknown", b"\x80\xff", 202),
        (b"Accept", b"\xff", 202),
    ],
)
def test_odd_header_bytes_get_the_answer_of_their_stage(
    gateway: Gateway, name: bytes, value: bytes, status: int
) -> None:
    """Bytes beyond ASCII in a header are just another value."""
    headers = {b"API-Key": key_of("acme").encode(), b"Content-Type": b"application/json", name: value}
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers.items())
    body = VALID.encode()
    with raw_connection(gateway) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s"
            % (SEND.encode(), len(body), lines, body)
        )
        assert read_answer(connection)[0] == status


def test_a_header_given_twice_is_no_key(gateway: Gateway) -> None:
    """Two values of a header that takes one are as wrong as a malformed one."""
    body = VALID.encode()
    for name, value, status in (
        ("API-Key", "x", 401),
        ("Idempotency-Key", "b", 400),
        ("Idempotency-Key", "", 400),
    ):
        head = f"{HEAD}Idempotency-Key: a\r\n{name}: {value}\r\nContent-Length: {len(body)}\r\n\r\n"
        with raw_connection(gateway) as connection:
            connection.sendall(head.encode() + body)
            assert read_answer(connection)[0] == status


GARBAGE = {
    "NULs": b"\0\0\0\0\r\n\r\n",
    "no version": b"GET\r\n\r\n",
    "a NUL in a header's name": b"POST / HTTP/1.1\r\nA\0: b\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in the form of HTTP/1": f"POST {SEND} HTTP/2.0\r\nHost: x\r\n\r\n".encode(),
    "HTTP/0.9 with headers": b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n",
    "no Host": b"GET /healthz HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "an empty Host": b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host that is none": b"GET /healthz HTTP/1.1\r\nHost: a/b@c\r\n\r\n",
    "no Host, but an offer to upgrade": b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a body in gzip": f"{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".encode(),
    "a coding that nobody knows": f"{HEAD}Transfer-Encoding: x\r\n\r\n".encode(),
    "chunked twice": (HEAD + 2 * "Transfer-Encoding: chunked\r\n" + "\r\n0\r\n\r\n").encode(),
    "chunked in HTTP/1.0": f"{HEAD.replace('1.1', '1.0')}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    "a negative length": f"{HEAD}Content-Length: -1\r\n\r\n".encode(),
    "two lengths": f"{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\n".encode(),
    "a path beyond ASCII": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a port that is none": b"GET http://a:b/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:1 HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_not_http_is_refused_and_its_connection_closed(gateway: Gateway, name: str) -> None:
    """Even what the parser cannot read is answered in the one form, and others are served on."""
    with raw_connection(gateway) as connection:
        connection.sendall(GARBAGE[name])
        connection.shutdown(socket.SHUT_WR)
        status, headers, body = read_answer(connection)
        assert connection.recv(1) == b""
    assert (status, json.loads(body)["error_code"]) == (400, "BAD_REQUEST")
    assert schemas.load("error").violations(json.loads(body)) == []
    assert json.loads(body)["tracking_id"] == headers["x-tracking-id"]
    assert gateway.http.get("/healthz").status_code == 200


def test_http_1_0_needs_no_host(gateway: Gateway) -> None:
    """As simple probes send it. With one it is served, too, whatever the name, its port and the case of a coding."""
    body = VALID.encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for head, status in (
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\nHost: server_a:8000\r\n\r\n", 200),
        (b"GET http://other/healthz HTTP/1.1\r\nHOST: [::1]:8000 \r\n\r\n", 200),
        (f"{HEAD}Transfer-Encoding: Chunked \r\n\r\n".encode() + chunks, 202),
    ):
        with raw_connection(gateway) as connection:
            connection.sendall(head)
            assert read_answer(connection)[0] == status


@pytest.mark.parametrize("method", ["BREW", "post", "FOO"])
def test_a_method_that_http_does_not_know_is_not_allowed(gateway: Gateway, method: str) -> None:
    """405 in the one form, with ``Allow``."""
    with raw_connection(gateway) as connection:
        connection.sendall(f"{method} {SEND} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, headers, body = read_answer(connection)
    assert (status, json.loads(body)["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in headers["allow"]


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("header", ["Upgrade", "UPGRADE", "upgrade", "uPGRADE"])
def test_an_offer_to_upgrade_is_passed_over(
    gateway: Gateway, backend: Backend, header: str, protocol: str
) -> None:
    """Java's HTTP client offers HTTP/2 with each request: the message is taken as if it had not."""
    body = VALID.encode()
    offer = f"Connection: Upgrade, HTTP2-Settings\r\n{header}: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    with raw_connection(gateway) as connection:
        for _ in range(2):
            connection.sendall(f"{HEAD}{offer}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert read_answer(connection)[0] == 202
    assert len(backend.take_all()) == 2


def test_an_offer_to_upgrade_may_come_in_pieces(gateway: Gateway, backend: Backend) -> None:
    """It is passed over, and its body is read, wherever a packet ends."""
    body = VALID.encode()
    head = f"{HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with raw_connection(gateway) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in (head.index(b"Upgrade: h2c") + 3, len(head), len(head) + 5):
            connection.sendall((head + body)[:cut])
            time.sleep(0.1)
            connection.sendall((head + body)[cut:])
            assert read_answer(connection)[0] == 202
    assert len(backend.take_all()) == 3


@pytest.mark.parametrize("sends", [1, 2])
@pytest.mark.parametrize("garbage", [b"\0\0\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"], ids=["NULs", "a method"])
def test_garbage_behind_a_request_does_not_get_its_answer(
    gateway: Gateway, backend: Backend, sends: int, garbage: bytes
) -> None:
    """What was pipelined before it is answered, each request with its own 202; then the connection ends."""
    body = VALID.encode()
    send = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with raw_connection(gateway) as connection:
        connection.sendall(send * sends + garbage)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received) == [b"202"] * sends
    ids = {json.loads(found)["tracking_id"] for found in re.findall(rb"\{[^}]*\}", received)}
    assert ids == {envelope["tracking_id"] for envelope in backend.take_all()}
    assert len(ids) == sends


def test_a_broken_body_behind_a_request_does_not_get_its_answer(gateway: Gateway, backend: Backend) -> None:
    """The second of two pipelined requests is no HTTP from its body on: the first one's 202 is the first one's."""
    body = VALID.encode()
    first = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    second = f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode()
    with raw_connection(gateway) as connection:
        connection.sendall(first + second)
        status, _, answer = read_answer(connection)
    assert status == 202
    (envelope,) = backend.take_all()
    assert json.loads(answer)["tracking_id"] == envelope["tracking_id"]


def test_a_refusal_of_the_parser_is_one_line_in_the_log(gateway: Gateway) -> None:
    """It has the tracking_id of the answer, and the server adds none of its own."""
    before = len(gateway.log_lines())
    with raw_connection(gateway) as connection:
        connection.sendall(b"\0\0\r\n\r\n")
        _, headers, _ = read_answer(connection)
    (line,) = [line for line in gateway.log_lines()[before:] if line["message"] != "request accepted"]
    assert (line["level"], line["message"], line["error_code"]) == ("INFO", "request refused", "BAD_REQUEST")
    assert line["tracking_id"] == headers["x-tracking-id"]


def test_a_body_that_declares_too_much_is_refused_though_it_drips(gateway: Gateway) -> None:
    """Within about a second, not when the time for a body is over."""
    with raw_connection(gateway) as connection:
        began = time.monotonic()
        connection.sendall(f"{HEAD}Content-Length: 20000\r\n\r\n ".encode())
        status, headers, body = read_answer(connection)
        assert time.monotonic() - began < 5
    assert (status, json.loads(body)["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert headers["connection"] == "close"


@pytest.mark.parametrize("pad", [" ", "\t", "  \t "], ids=repr)
def test_white_space_around_headers_is_no_part_of_them(gateway: Gateway, pad: str) -> None:
    """RFC 9110, 5.5: a key is the same key, whatever a proxy has put around it."""
    body = VALID.encode()
    key = f"{gateway.port}-{len(pad)}-{ord(pad[-1])}"
    head = HEAD.replace(key_of("acme"), f"{pad}{key_of('acme')}{pad}")
    with raw_connection(gateway) as connection:
        connection.sendall(
            f"{head}Idempotency-Key:{pad}{key}{pad}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        status, _, answer = read_answer(connection)
    assert status == 202
    again = gateway.http.post(
        SEND,
        content=body,
        headers={"API-Key": key_of("acme"), "Content-Type": "application/json", "Idempotency-Key": key},
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == answer


def test_an_accept_that_cannot_be_read_gets_the_metrics(gateway: Gateway) -> None:
    """As text: a scrape is not refused for what its header says of versions."""
    answer = gateway.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=x"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_text_that_looks_like_a_header_stays_as_it_is(gateway: Gateway, backend: Backend) -> None:
    """What is passed over in a head is not touched in a body, however it is cut into packets."""
    text = "a\r\nUpgrade: b\r\n\r\nupgrade:"
    body = json.dumps({"to": NUMBER, "text": text}).encode().replace(b"\\r\\n", b"\\r\\n")
    head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode()
    for cut in (len(head), len(head) + 30):
        with raw_connection(gateway) as connection:
            connection.sendall((head + body)[:cut])
            time.sleep(0.1)
            connection.sendall((head + body)[cut:])
            assert read_answer(connection)[0] == 202
    assert [envelope["text"] for envelope in backend.take_all()] == [text, text]


def test_an_endless_head_is_cut_off(gateway: Gateway) -> None:
    """A head beyond its bound ends its connection."""
    with raw_connection(gateway) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Endless: ")
        sent = 0
        try:
            while sent < 1 << 26:
                sent += connection.send(b"a" * 4096)
        except OSError:
            pass
        assert sent < 1 << 24


@once
def test_a_head_that_does_not_arrive_times_out(gateway: Gateway) -> None:
    """Who connects and says nothing, or half of a head, is let go; also after a first request."""
    with (
        raw_connection(gateway, 30) as silent,
        raw_connection(gateway, 30) as slow,
        raw_connection(gateway, 30) as second,
    ):
        slow.sendall(b"GET /healthz HT")
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(second)[0] == 200
        second.sendall(b"GET /healthz HT")
        for connection in (silent, slow, second):
            assert connection.recv(1) == b""


def test_a_broken_request_behind_a_good_one_does_not_take_its_answer(
    gateway: Gateway, backend: Backend
) -> None:
    """A send and a broken one in one packet: the first is answered 202, and the connection ends with it."""
    body = VALID.encode()
    good = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    broken = f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode()
    with raw_connection(gateway) as connection:
        connection.sendall(good + broken)
        assert read_answer(connection)[0] == 202
        assert connection.recv(1) == b""
    assert len(backend.take_all()) == 1


def test_a_length_with_thousands_of_leading_zeros_is_its_number(gateway: Gateway) -> None:
    """What the HTTP parser lets through is no bug of ours."""
    body = VALID.encode()
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Content-Length: {'0' * 5000}{len(body)}\r\n\r\n".encode() + body)
        assert read_answer(connection)[0] == 202


def test_trailers_are_no_headers(gateway: Gateway) -> None:
    """What stands behind a chunked body changes nothing of the request."""
    body = VALID.encode()
    chunks = b"%x\r\n%s\r\n0\r\nAPI-Key: x\r\nIdempotency-Key: \r\n\r\n" % (len(body), body)
    with raw_connection(gateway) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks)
        assert read_answer(connection)[0] == 202


@once
def test_stray_bytes_do_not_keep_an_idle_connection_open(gateway: Gateway) -> None:
    """A line feed between requests, and a chunk of a body that was answered unread, end no idling."""
    with raw_connection(gateway, 60) as between, raw_connection(gateway, 60) as unread:
        between.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(between)[0] == 200
        between.sendall(b"\r\n")
        head = HEAD.replace(key_of("acme"), "unknown")
        unread.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n".encode())
        assert read_answer(unread)[0] == 401
        unread.sendall(b"1\r\nb\r\n")
        assert between.recv(1) == b""
        assert unread.recv(1) == b""
