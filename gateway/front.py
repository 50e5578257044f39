"""The HTTP server's protocol with what uvicorn leaves to a proxy: bounded headers and deadlines, so that the app server alone stands a
slow or hostile client (SECURITY.md S50-S52, F41).

A connection that has not finished its headers within the deadline, or sends more of them than allowed, is told so and closed.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.edge import BODY_ARRIVED
from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, TooSlow
from workspaces.ids import uuid7

HEADER_DEADLINE_S = 10.0
MAX_HEAD_BYTES = 32 * 1024
"""Of request line and headers together, before the gateway's own finer limits apply."""
MAX_HEADERS = 200


class FrontProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=FrontProtocol)`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEADER_DEADLINE_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            if self._head_timer is None:  # the first bytes of a further request on a kept connection
                self._head_timer = self.loop.call_later(HEADER_DEADLINE_S, self._too_slow)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge("The request's headers are too long."))

    def send_400_response(self, msg: str) -> None:
        """What llhttp refuses: two lengths, a length and chunks, bare line feeds, folded or nameless headers, sizes that are no numbers."""
        self._refuse(BadRequest("This is not HTTP that can be read safely.", code="invalid_http"))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refuse(HeadersTooLarge(f"The request has more than {MAX_HEADERS} headers."))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            self.scope[BODY_ARRIVED] = True  # type: ignore[literal-required]  # a key of ours beside those of ASGI
            super().on_message_complete()
        self._in_head = True

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
