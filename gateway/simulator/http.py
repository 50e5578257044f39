"""HTTP/1.1 on raw sockets: parse a request, answer it, and, where a script says so, break the connection in a chosen way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

import httptools

MAX_BODY = 64 << 20
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus} | {529: b"Overloaded"}

Headers = Sequence[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client closed the connection while it was being answered."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool

    def header(self, name: str) -> str:
        """The value of a header, "" when absent. `name` in lower case."""
        wanted = name.encode()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("latin-1").strip()
        return ""


class Exchange:
    """The answer to one request. Every wait raises ClientGone once the client has left."""

    __slots__ = ("_connection", "_keep_alive", "_transport", "ended", "started")

    def __init__(self, connection: Connection, transport: asyncio.Transport, keep_alive: bool) -> None:
        self._connection = connection
        self._transport = transport
        self._keep_alive = keep_alive
        self.started = False
        self.ended = False

    @property
    def gone(self) -> bool:
        return self._connection.gone

    def respond(self, status: int, body: bytes, content_type: str = "application/json", headers: Headers = ()) -> None:
        """A whole answer at once."""
        bare = status in (204, 304)
        length = () if bare else ((b"content-length", b"%d" % len(body)),)
        self.head(status, "" if bare else content_type, (*length, *headers), b"" if bare else body)
        self._end()

    def start(self, status: int, content_type: str, headers: Headers = ()) -> None:
        """The head of an answer whose length is not known: chunks follow."""
        self.head(status, content_type, ((b"transfer-encoding", b"chunked"), *headers))

    def head(self, status: int, content_type: str, headers: Headers, body: bytes = b"") -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b"Status"))]
        if content_type:
            lines.append(b"content-type: " + content_type.encode())
        lines += [name + b": " + value for name, value in headers]
        lines.append(b"connection: keep-alive" if self._keep_alive else b"connection: close")
        self.started = True
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def write(self, data: bytes) -> None:
        """One chunk."""
        if data:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def write_raw(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self, data: bytes = b"") -> None:
        """The last chunk, if any, and the end."""
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._transport.write(chunk + b"0\r\n\r\n")
        self._end()

    def close(self) -> None:
        """End the connection here, whatever was promised."""
        self.ended = True
        self._transport.close()

    def reset(self) -> None:
        """Drop what is unsent and answer with a TCP reset."""
        self.ended = True
        reset(self._transport)

    async def pause(self, seconds: float) -> None:
        await self._connection.wait(seconds)

    async def flushed(self) -> None:
        """Give way to others; wait while the client does not read."""
        await self._connection.writable()

    def _end(self) -> None:
        self.ended = True
        if not self._keep_alive:
            self._transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Close so that the peer sees RST instead of FIN."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


Serve = Callable[[Request, Exchange], Awaitable[None]]
Instant = Callable[[bytes, bytes, list[tuple[bytes, bytes]]], bytes | None]
"""(path, body, headers) -> a whole answer made without a task, or None."""


Upgrade = Callable[[Request, "Connection", asyncio.Transport, bytes], bool]
"""(request, its connection, transport, url) -> whether a WebSocket has taken the transport over."""


class Connection(asyncio.Protocol):
    """One client connection; requests are answered in their order."""

    def __init__(self, serve: Serve, instant: Instant, upgrade: Upgrade, open_connections: set[Connection]) -> None:
        self._upgrade = upgrade
        self._upgrading: tuple[Request, bytes] | None = None
        self._serve = serve
        self._instant = instant
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._write_paused = False
        self.task: asyncio.Task[None] | None = None
        self.gone = False
        self._reset_message()

    def _reset_message(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0

    # the transport's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            request, url = self._upgrading or (None, b"")
            if request is not None and not self._upgrade(request, self, self._transport, url):
                self._waiting.append(request)
                self._next()
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._open.discard(self)
        self._waiting.clear()
        self._wake()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    # the parser's side
    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if value.lower() == b"100-continue" and name.lower() == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._transport.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        url, headers, body = self._url, self._headers, b"".join(self._body)
        keep_alive = self._parser.should_keep_alive()
        method = self._parser.get_method()
        self._reset_message()
        if self._size > MAX_BODY:
            return
        if self._parser.should_upgrade():
            path, _, query = url.partition(b"?")
            asked = Request("GET", unquote(path.decode("latin-1")), query.decode("latin-1"), headers, b"", False)
            self._upgrading = asked, url
            return
        if self.task is None and keep_alive and (answer := self._instant(url, body, headers)) is not None:
            self._transport.write(answer)
            return
        path, _, query = url.partition(b"?")
        self._waiting.append(
            Request(
                method.decode(), unquote(path.decode("latin-1")), query.decode("latin-1"), headers, body, keep_alive
            )
        )
        if self.task is None:
            self._next()
        elif len(self._waiting) > 64:
            self._transport.close()

    def _next(self) -> None:
        self.task = None
        if self._waiting and not self.gone:
            request = self._waiting.popleft()
            self.task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        exchange = Exchange(self, self._transport, request.keep_alive)
        try:
            await self._serve(request, exchange)
        except ClientGone:
            pass
        finally:
            if not exchange.ended and not self.gone:
                self._transport.close()
        self._next()

    # waiting
    async def wait(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def writable(self) -> None:
        while self._write_paused:
            await self._sleep(None)
        await asyncio.sleep(0)
        if self.gone:
            raise ClientGone

    async def _sleep(self, seconds: float | None) -> None:
        """Until the time is over (None: until woken) or the client is gone."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(seconds, _resolve, waiter) if seconds is not None else None
        try:
            if not self.gone:
                await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        if self.gone:
            raise ClientGone

    def _wake(self) -> None:
        if self._waiter is not None and (self.gone or not self._write_paused):
            _resolve(self._waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
