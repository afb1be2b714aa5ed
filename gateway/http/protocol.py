"""uvicorn's HTTP protocol, with what it leaves open settled: the bounds of a request's head, and what is no HTTP.

A head that is too large or too slow ends its connection. What the parser refuses is answered in the form of every other
error. A client that closes only its sending side, as some tools do after a request, gets its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.http import refusal
from gateway.http.cycle import EXTENSIONS, Cycle
from gateway.http.head import JUDGED, check_host, check_transfer_coding, check_whole
from gateway.http.limits import MANY_WAITING, MOST_WAITING, Flow, Shared
from gateway.http.transport import WRITE_SECONDS, BatchingTransport
from gateway.http.upgrade import head_without_offer
from pipeline.failures import Refused

HEAD_SECONDS = 10.0
"""How long the head of a request may take, from its first byte, and a new connection to begin one."""
HEAD_BYTES = 64 * 1024
"""How large a head may be; more in one packet may pass, since the parser has it then."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    The body's bounds are the application's (see ``pipeline.payload``). Bytes alone end no idling, only a request does:
    neither a line feed too many nor the rest of a body that was answered unread. Of uvicorn's options ``access_log``,
    ``limit_concurrency``, ``reset_contextvars``, ``root_path`` and WebSockets are not served here.
    """

    transport: BatchingTransport  # type: ignore[mutable-override]  # It is given no other.
    flow: Flow  # type: ignore[mutable-override]  # As above.

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], shared: Shared
    ) -> None:
        super().__init__(config, server_state, app_state, shared.batch.loop)
        self._shared = shared
        # They are answered in order: only the first is being served.
        self._unanswered: deque[Cycle] = deque()
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._is_in_body = False
        self._is_ending = False
        self._hosts = 0
        self._url, self._place = b"", ("", b"", b"")

    def connection_made(self, transport: Any) -> None:
        """A connection is there: its first head must come."""
        super().connection_made(BatchingTransport(transport, self._shared.batch))
        self.flow = Flow(self.transport, self._unanswered)
        if len(self.connections) > self._shared.most_connections:
            self._shared.on_refused()
            self._refuse(refusal.too_many_connections())
        self._bound_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end_head()
        self._end_write_timer()
        self.transport.lost()
        self._shared.idle.discard(self)
        for cycle in self._unanswered:  # uvicorn tells only the latest.
            cycle.disconnected = True
            cycle.message_event.set()
        # Those that were not begun never will be: they must not keep this connection in memory, nor it them.
        for cycle in islice(self._unanswered, 1, None):
            cycle.forget()
        self._unanswered.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes too little of its answers: what waits to send it more must not wait for ever."""
        super().pause_writing()
        self._end_write_timer()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken them."""
        self._end_write_timer()
        super().resume_writing()

    def _end_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def eof_received(self) -> bool:  # type: ignore[override]  # As asyncio has it; uvicorn narrows it to None.
        """The client sends no more, but may still read: the connection ends when what came whole is answered."""
        return self._end()

    def data_received(self, data: bytes) -> None:
        """Bytes are there; if they belong to a head that is still arriving they are counted."""
        if self._is_ending:
            # Read all the same: the end of a connection with unread bytes is a reset, which loses answers.
            return
        if self._is_in_head:
            self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(refusal.not_http(error, data))
        if self._is_in_head:
            self._bound_head()
            if self._head_bytes > HEAD_BYTES:
                self._refuse(refusal.head_too_large())

    def _parse(self, data: bytes) -> None:
        """Raises ``httptools.HttpParserError`` for what is no HTTP."""
        rest: bytes | memoryview = data
        # Not by recursion: a packet may hold hundreds of offers.
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                (end_of_head,) = upgrade.args
            if self.parser.get_method() == b"CONNECT":
                # Nobody knows where the next request begins.
                return
            head = head_without_offer(self.parser, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn has it for the first one.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)
            rest = memoryview(rest)[end_of_head:]

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a head."""
        self._shared.idle.discard(self)
        self._is_in_head = True
        self.url = b""
        self.headers = []
        self._hosts = 0
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has seen a header; what follows a chunked body is none that anybody here should believe."""
        if not self._is_in_body:
            name = name.lower()
            if name in JUDGED:
                self._judge(name, value)
            self.headers.append((name, value))

    def _judge(self, name: bytes, value: bytes) -> None:
        """Look at a header that says how the request is to be taken. Raises ``MalformedHead``."""
        if name == b"host":
            self._hosts += 1
            check_host(value)
        elif name == b"expect":
            self.expect_100_continue |= value.lower() == b"100-continue"
        else:
            check_transfer_coding(value, self.parser.get_http_version())

    def on_headers_complete(self) -> None:
        """The parser has seen the whole head: its request is served, or waits for those before it."""
        parser = self.parser
        method = parser.get_method()
        if parser.should_upgrade() and method != b"CONNECT":
            # Its head comes once more, without the offer.
            return
        self._end_head()
        if len(self._unanswered) >= MOST_WAITING:
            # Those are answered, and the connection ends with them.
            raise ValueError("too many requests ahead of their answers")
        version = parser.get_http_version()
        check_whole(version, self._hosts)
        path, raw_path, query = self._located(self.url)
        scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "extensions": EXTENSIONS,
        }
        self.cycle = cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            # After a CONNECT the parser takes what follows for another protocol.
            version != "1.0" and method != b"CONNECT" and parser.should_keep_alive(),
            self.expect_100_continue,
            self.on_response_complete,
        )
        self._is_in_body = True
        self._unanswered.append(cycle)
        if len(self._unanswered) == 1:
            cycle.begin(self.app, self.loop, self.tasks)
        elif len(self._unanswered) >= MANY_WAITING:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """The parser has seen a part of the body."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The parser has seen the whole request, or one that offers to upgrade up to the end of its head."""
        if not self._is_in_body:
            return
        self._is_in_body = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """An answer has left: the next request on the connection is served, or the connection idles."""
        self.server_state.total_requests += 1
        self._unanswered.popleft()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._unanswered:
            self._unanswered[0].begin(self.app, self.loop, self.tasks)
        elif not self._is_in_head:
            self._shared.idle.add(self)

    def _located(self, url: bytes) -> tuple[str, bytes, bytes]:
        """The path, decoded and raw, and the query. Remembered, since a connection asks for the same again and again.

        Raises ``httptools.HttpParserInvalidURLError``, and ``ValueError`` for one without a path.
        """
        if url != self._url:
            parsed = httptools.parse_url(url)
            if parsed.path is None:
                raise ValueError("no path")
            path = parsed.path.decode("ascii")
            self._place = (unquote(path) if "%" in path else path, parsed.path, parsed.query or b"")
            self._url = url
        return self._place

    def _refuse(self, refused: Refused) -> None:
        if self._end_with_the_last_whole():
            # Earlier requests on this connection wait for their answers, and must not get this one.
            return
        self.transport.write(refusal.last_answer(refused, self.server_state.default_headers))
        self.transport.close()

    def _end(self) -> bool:
        """End the connection with the last answer that is waited for, or now; whether it is still open."""
        if self._end_with_the_last_whole():
            return True
        self.transport.close()
        return False

    def _end_with_the_last_whole(self) -> bool:
        """Have the last request that came whole end the connection by its answer; False when none waits for one."""
        self._end_head()
        unanswered = self._unanswered
        if not unanswered or (self._is_in_body and unanswered[0] is self.cycle):
            return False
        if self._is_in_body:
            # The request that is not whole waits behind others: it is forgotten.
            unanswered.pop()
            self.cycle, self._is_in_body = unanswered[-1], False
        self.cycle.keep_alive = False
        self._is_ending = True
        return True

    def _bound_head(self) -> None:
        """Start the head's time; a head that comes whole, as nearly all do, needs no timer."""
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end)

    def _end_head(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
