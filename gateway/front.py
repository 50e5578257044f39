"""The HTTP server's protocol with what uvicorn leaves to a proxy: bounded headers and deadlines, so that the app server alone stands a
slow or hostile client (SECURITY.md S50-S52, F41).

A connection that has not finished its headers within the deadline, or sends more of them than allowed, is told so and closed. Calls of the data
plane get a cycle of their own, which writes a whole answer at once, and go straight to the application's `calls` where it has them; pages go
uvicorn's way.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.edge import BODY, BODY_ARRIVED, FLOW
from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, TooSlow
from workspaces.ids import uuid7

HEADER_DEADLINE_S = 10.0
MAX_HEAD_BYTES = 32 * 1024
"""Of request line and headers together, before the gateway's own finer limits apply."""
MAX_HEADERS = 200
_CALLS = (b"/v1/", b"/anthropic/v1/", b"/gemini/v1")
_IN_A_HEADER = bytes({*range(256)} - {*range(0x20)} - {0x7F} | {0x09})
"""What a header's value may hold; everything else in a head is its line breaks."""


def is_clean(head: bytes, lines: int) -> bool:
    """Whether so many lines of an answer's head, joined, hold nothing but what headers may. A `\\r\\n` within one of them is another line."""
    # As JSON every control but 0x7F gets longer, each by a byte at least: where only the breaks that must be there do, there are no others.
    # That takes a sixth of looking at each byte.
    if len(orjson.dumps(head.decode("latin-1"))) == len(head) + 2 * lines and head.find(b"\x7f") < 0:
        return True
    return head.translate(None, _IN_A_HEADER) == b"\r\n" * (lines - 1)


class FrontProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=FrontProtocol)`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._opening = b""
        """The piece that a request begins with, until its head is whole"""
        self._incoming: _Call | None = None
        """The call whose request is not whole yet"""
        self._calls = getattr(self.app, "calls", self.app)
        self._refused = False
        self._idle_until = 0.0
        """When an idle connection is closed, in loop time; 0: it is not idle"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEADER_DEADLINE_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_idle_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._idle_until = 0.0
        if self._in_head:
            if not self._head_bytes:
                self._opening = data
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes and not self._refused:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadersTooLarge("The request's headers are too long."))
            elif self._head_timer is None and not self.transport.is_closing():  # begun and not whole
                self._head_timer = self.loop.call_later(HEADER_DEADLINE_S, self._too_slow)

    def on_response_complete(self) -> None:
        """As uvicorn's, with one lazy timer a connection instead of one an answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_until and not self.transport.is_closing():
            left = self._idle_until - self.loop.time()
            if left > 0:
                self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
            else:
                self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        """Called for every piece of a request: `_idle_until` says it, the timer need not be stopped."""

    def _unset_idle_timer(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def send_400_response(self, msg: str) -> None:
        """What llhttp refuses: two lengths, a length and chunks, bare line feeds, folded or nameless headers, sizes that are no numbers."""
        self._refuse(BadRequest("This is not HTTP that can be read safely.", code="invalid_http"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's. How many there are is asked when all are there: until then `MAX_HEAD_BYTES` bounds them. Trailers, which nothing bounds and
        nobody reads, are dropped."""
        if not self._in_head:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._stop_timer()
        if len(self.headers) > MAX_HEADERS:
            self._refuse(HeadersTooLarge(f"The request has more than {MAX_HEADERS} headers."))
        if self._refused:
            return
        if self.url.startswith(_CALLS) and not self.parser.should_upgrade():
            self._begin_call()
        else:
            super().on_headers_complete()

    def _begin_call(self) -> None:
        """As uvicorn's `on_headers_complete`, for a path of the data plane as it is."""
        raw_path, _, query = self.url.partition(b"?")
        if (
            raw_path.find(b"%") >= 0 or self.url.find(b"#") >= 0
        ):  # `in` asks first whether bytes are a number: it costs much more
            super().on_headers_complete()
            return
        parser = self.parser
        method = parser.get_method()
        scope: Any = self.scope
        scope["method"] = method.decode("ascii")
        keep_alive = parser.should_keep_alive()
        # Asking the parser for the version costs more than seeing that the piece begins with the usual line, which uvicorn's scope presumes.
        if not self._opening.startswith(b"%b %b HTTP/1.1\r" % (method, self.url)):
            scope["http_version"] = version = parser.get_http_version()
            keep_alive = keep_alive and version != "1.0"
        self._opening = b""  # of what else is in the piece, it says nothing
        scope["path"], scope["raw_path"] = raw_path.decode("ascii"), raw_path
        scope["query_string"] = query
        before: RequestResponseCycle | None = self.cycle
        scope[FLOW] = self.cycle = self._incoming = call = _Call(self, keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(call, self._calls)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self._calls))

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, which asks for every piece again whether this is an upgrade: a call is none."""
        if self._refused:
            return
        call = self._incoming
        if call is None:
            super().on_body(body)
        elif not call.response_complete:
            call.body += body
            if len(call.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            call.message_event.set()

    def on_message_complete(self) -> None:
        self._in_head = True
        if self._refused:
            return
        self.scope[BODY_ARRIVED] = True  # type: ignore[literal-required]  # a key of ours beside those of ASGI
        call, self._incoming = self._incoming, None
        if call is None:
            super().on_message_complete()
        elif not call.response_complete:
            call.more_body = False
            call.message_event.set()

    def _too_slow(self) -> None:
        self._head_timer = None
        self._refuse(TooSlow(f"The request's headers did not arrive within {HEADER_DEADLINE_S:.0f} seconds."))

    def _refuse(self, error: GatewayError) -> None:
        self._stop_timer()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        call_id = str(uuid7())
        body = error.payload(call_id)
        fields = [
            *error.answer_headers(),
            (b"x-request-id", call_id.encode()),
            (b"connection", b"close"),
            (b"content-length", b"%d" % len(body)),
        ]
        head = b"HTTP/1.1 %d %b\r\n" % (error.status, HTTPStatus(error.status).phrase.encode())
        self.transport.write(head + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Bell:
    """What uvicorn uses of an asyncio.Event, cheap to make and to ring: nearly no call waits for it."""

    _rung = False
    _waiters: list[asyncio.Future[None]] | None = None

    def set(self) -> None:
        self._rung = True
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._rung = False

    async def wait(self) -> None:
        if self._rung:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters = [*(self._waiters or ()), waiter]
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)


def _nothing() -> None:
    """Instead of `on_response` when a call is over."""


class _Call(RequestResponseCycle):
    """The cycle of a call. A whole answer (`gateway.edge.BODY` in its start) is one write, a whole body one read without waiting."""

    def __init__(self, front: FrontProtocol, keep_alive: bool) -> None:
        """As uvicorn's with what `front` gives it, which is the same for every call (a test compares them)."""
        self.scope = front.scope
        self.transport = front.transport
        self.flow = front.flow
        self.logger = front.logger
        self.access_logger = front.access_logger
        self.access_log = False
        self.default_headers = front.server_state.default_headers
        self.message_event = _Bell()  # type: ignore[assignment]  # all that uvicorn uses of an event
        self.on_response = front.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = front.expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn's, and then the scope, which holds this cycle, lets it go: a call leaves nothing behind that only a search for garbage finds."""
        try:
            await app(self.scope, self.receive, self.send)
            whole = self.response_complete or self.disconnected
            if not whole:
                self.logger.error("A call was left without a whole answer.")
        except BaseException as error:
            self.logger.error("Exception in ASGI application\n", exc_info=error)
            whole = False
        try:
            if not whole and self.response_started:
                self.transport.close()
            elif not whole:
                await self.send_500_response()
        finally:
            self.scope.pop(FLOW, None)  # type: ignore[misc]  # a key of ours, as BODY_ARRIVED
            self.on_response = _nothing

    @property
    def write_paused(self) -> bool:
        return self.flow.write_paused

    def pass_on(self, body: bytes) -> None:
        if not self.disconnected:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    def pass_framed(self, framed: bytes) -> bool:
        if self.flow.write_paused:
            return False
        if not self.disconnected:
            self.transport.write(framed)
        return True

    def whole_body(self) -> bytes | None:
        if (
            not self.body
            or self.more_body
            or self.waiting_for_100_continue
            or self.disconnected
            or self.response_complete
        ):
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()
        self.flow.resume_reading()
        return body

    async def receive(self) -> Any:
        body = self.whole_body()
        if body is None:
            return await super().receive()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        body = message.get(BODY)
        if body is None:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("a second answer to one call")
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [*map(b": ".join, self.default_headers), *map(b": ".join, message["headers"])]
        if b"connection: close" in lines:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines)
        if not is_clean(head, len(lines)):
            raise RuntimeError("a header has characters that no header has")
        if self.scope["method"] == "HEAD":
            body = b""
        self.transport.write(b"".join((STATUS_LINE[message["status"]], head, b"\r\n\r\n", body)))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
