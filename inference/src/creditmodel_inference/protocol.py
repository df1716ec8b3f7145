"""The connection: uvicorn's HTTP protocol with a short way for /v1/score, and limits on a client's time.

A request to score whose body is small and announced needs nothing of ASGI: it is scored where it is parsed. All else
goes through uvicorn's own cycle to the FastAPI application, whose /v1/score gives the same answers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from creditmodel_inference.errors import Busy, LongHead, Malformed, Problem, SlowClient, TooLarge
from creditmodel_inference.keys import Keys
from creditmodel_inference.lifecycle import Lifecycle
from creditmodel_inference.requests import Headers, check_headers, check_length, given_request_id
from creditmodel_inference.settings import Limits
from creditmodel_inference.wire import Heads, RequestIds, problem_answer

__all__ = ["ConnectionBase", "connection_class"]

access_logger = logging.getLogger("creditmodel.access")

SHORT_WAY_BYTES = 16 * 1024
"""Longer bodies go through ASGI, where a large batch gives way to other clients between blocks."""

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100

LINGER_SECONDS = 2.0
"""How long what a refused client still sends is read and forgotten, so that it gets to read the answer."""


class ConnectionBase(HttpToolsProtocol):
    """One client's connection. `connection_class` makes the class that a server uses."""

    lifecycle: ClassVar[Lifecycle]
    limits: ClassVar[Limits]
    heads: ClassVar[Heads]
    request_ids: ClassVar[RequestIds]
    keys: ClassVar[Keys | None] = None
    logs_access: ClassVar[bool] = False

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._seen = time.monotonic()
        # Jitter keeps clients that came together from coming back together.
        self._expires = self._seen + self.limits.connection_age_seconds * random.uniform(0.8, 1.2)  # noqa: S311
        self._reading_since: float | None = None
        self._short = False
        self._in_head = False
        self._head_bytes = 0
        self._body: bytes | bytearray = b""
        self._short_headers: Headers = {}
        self._unanswered = 0
        self._keep_alive = True
        self._refused_at: float | None = None
        self._unread_since: float | None = None

    @property
    def _cycle_done(self) -> bool:
        """Whether no request is on its way through ASGI."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    # What uvicorn calls.

    def data_received(self, data: bytes) -> None:
        if self._refused_at is not None:
            return
        self._seen = time.monotonic()
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and self._refused_at is None:
                self._refuse(LongHead(f"The request line and headers take at most {MAX_HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._reading_since = self._seen
        self._short = False
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._refused_at is not None or self.parser.should_upgrade():
            return
        if len(self.headers) > MAX_HEADERS:
            self._refuse(LongHead(f"A request has at most {MAX_HEADERS} headers."))
            return
        headers = dict(self.headers)
        try:
            length = check_length(headers, self.limits)
        except TooLarge as problem:
            self._refuse(problem)
            return
        if length is not None and length <= SHORT_WAY_BYTES and self._may_go_short():
            self._short = True
            self._body = b""
            self._short_headers = headers
            return
        self._go_through_asgi()

    def on_body(self, body: bytes) -> None:
        if self._refused_at is not None:
            return
        if not self._short:
            if not (self.cycle.body or self.cycle.response_complete):
                # As bytes it goes to the application as it is. A bytearray would be filled with it and copied again.
                self.cycle.body, body = body, b""  # type: ignore[assignment]
            super().on_body(body)
        elif self._body:
            self._body += body
        else:
            self._body = body

    def on_message_complete(self) -> None:
        self._reading_since = None
        if self._refused_at is not None or self.parser.should_upgrade():
            return
        if self._short:
            self._score()
        else:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._refused_at is None:
            self._refuse(Malformed(f"This is not HTTP/1.1 as the server understands it: {msg}"))

    def shutdown(self) -> None:
        if self._idle():
            self.transport.close()
        elif not self._cycle_done:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        super().pause_writing()
        # A client that does not read its answers gets no further questions in.
        self.flow.pause_reading()
        self._unread_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None
        self.flow.resume_reading()

    # Reading.

    def _feed(self, data: bytes) -> None:
        while data and self._refused_at is None:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_offer() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")

    def _without_offer(self) -> bytes:
        """The head of a request that offers another protocol as if it did not, as HTTP lets a server take it.

        Java's client offers HTTP/2 with every first request. The parser takes what follows such a head for the other
        protocol, the request's own body too, so that the head is given to a new one without the offer.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(Malformed("This server is no proxy: it does not take CONNECT."))
            return b""
        kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        return b"\r\n".join([method + b" " + self.url + b" HTTP/" + version, *kept, b"\r\n"])

    # The short way.

    def _may_go_short(self) -> bool:
        return (
            self.url == b"/v1/score"
            and self.parser.get_method() == b"POST"
            and self.lifecycle.service is not None
            and self._cycle_done
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
        )

    def _score(self) -> None:
        service = self.lifecycle.require_service()
        arrived = time.perf_counter()
        self._unanswered += 1
        self._keep_alive = self._keep_alive and self.parser.should_keep_alive()
        given_id = None
        try:
            if self.keys is not None:
                self.keys.check(self._short_headers)
            given_id = given_request_id(self._short_headers)
            check_headers(self._short_headers)
            if service.waiting >= self.limits.in_flight:
                raise Busy("As many requests as the server takes are in flight.", headers=[("retry-after", "1")])
        except Problem as problem:
            service.refuse(self, problem, given_id, arrived)
            return
        service.submit(self, bytes(self._body), given_id, arrived)

    def scored(self, request_id: str, body: bytes) -> None:
        """Send the answer to a request that was scored."""
        close = self._should_close()
        head = self.heads.ok(self.server_state.default_headers, request_id.encode(), len(body), close=close)
        self._send(head + body, 200, request_id, close=close)

    def failed(self, problem: Problem, request_id: str) -> None:
        """Send a problem. Earlier requests of this connection are answered first."""
        if self._unanswered > 1:
            self.lifecycle.require_service().flush()
        close = self._should_close()
        answer = problem_answer(problem, self.server_state.default_headers, request_id, close=close)
        self._send(answer, problem.status, request_id, close=close)

    def _send(self, answer: bytes, status: int, request_id: str, *, close: bool) -> None:
        self._unanswered -= 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if self.logs_access:
            access_logger.info("scored", extra={"fields": {"status": int(status), "request_id": request_id}})
        if close and self._unanswered == 0:
            self.transport.close()

    def _should_close(self) -> bool:
        return self.lifecycle.closing or self._seen > self._expires or not self._keep_alive

    # The way through ASGI.

    def _go_through_asgi(self) -> None:
        if self._unanswered:
            self.lifecycle.require_service().flush()
            if self.transport.is_closing():
                return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        if self._should_close():
            self.cycle.keep_alive = False

    # Limits on a client's time.

    def sweep(self, now: float) -> None:
        """End what takes too long: a request that does not arrive, an answer that is not read, an idle connection."""
        if self._unread_since is not None and now - self._unread_since > self.limits.request_seconds:
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self._refused_at is not None:
            if now - self._refused_at > LINGER_SECONDS:
                self.transport.close()
        elif self._reading_since is not None:
            if now - self._reading_since > self.limits.request_seconds:
                seconds = self.limits.request_seconds
                self._refuse(SlowClient(f"The request did not arrive within {seconds:g} s."))
        elif self._idle() and self._outlived(now):
            self.transport.close()

    def _outlived(self, now: float) -> bool:
        idle = now - self._seen
        if idle > self.limits.keep_alive_seconds:
            return True
        # A client that is between two requests of a burst is left alone; its next answer closes the connection.
        return idle > 1.0 and (now > self._expires or self.lifecycle.closing)

    def _idle(self) -> bool:
        return self._reading_since is None and not self._unanswered and self._cycle_done

    def _refuse(self, problem: Problem) -> None:
        """Answer at once, although the request is not complete, and close when the client has read it."""
        if self._unanswered:
            self.lifecycle.require_service().flush()
        self._refused_at = time.monotonic()
        self._reading_since = None
        if not self._cycle_done:
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.response_complete = True
            self.cycle.message_event.set()
        request_id = self.request_ids()
        defaults, to_protocol = self.server_state.default_headers, self.url.startswith(b"/v2")
        self.transport.write(problem_answer(problem, defaults, request_id, close=True, to_protocol=to_protocol))
        # What the client still sends is read and dropped: closing at once could reset the connection under the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()


def connection_class(
    lifecycle: Lifecycle, limits: Limits, keys: Keys | None, *, access_log: bool
) -> type[ConnectionBase]:
    """The connection class of one server."""
    return type(
        "Connection",
        (ConnectionBase,),
        {
            "lifecycle": lifecycle,
            "limits": limits,
            "request_ids": RequestIds(),
            "keys": keys,
            "logs_access": access_log,
        },
    )
