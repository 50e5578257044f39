"""One outgoing HTTP/1.1 connection: an asyncio protocol around llhttp (httptools), one exchange at a time.

It never buffers more than `HIGH_WATER` of an answer (the reader's pace reaches the provider), keeps one lazy timer for all time limits, and
declares itself reusable only when the answer ended exactly where its framing said.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import cast

import httptools

from gateway.upstream.failures import Broken, Silent, UpstreamFailure

HIGH_WATER = 256 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_INTERIM = 8
_LF = 0x0A

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""
Sink = Callable[[bytes], bool]
"""Takes a piece of a body; false when it can take no more for now."""
TOTAL_LIMIT = "the answer took longer than the total limit"
IDLE_LIMIT = "the provider went silent in the middle of its answer"


class Head:
    __slots__ = ("get", "headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.get: Callable[[bytes], bytes | None] = dict(reversed(headers)).get
        """A header by its lower-case name; the first of several."""


class Connection(asyncio.Protocol):
    """Use: `send`, then `progress` until there is a `head`, then `chunk` until it returns b""; `reusable` says whether it may serve again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._limit_named = ""
        self._silence = select.poll()
        self._sink: Sink | None = None
        self._framed: Sink | None = None
        self._framed_now: Sink | None = None
        """`_framed`, while all that came ended with a piece of the chunked coding: llhttp expects the next one, or the end"""
        self._declined = self._between_pieces = False
        self._idle_s = self._ends_at = self._heard_at = 0.0
        self.lost = False
        self.idle_since = 0.0
        self.keep_idle_s: float | None = None
        """What the provider's Keep-Alive header allows, where it says so."""
        self._begin()
        self.complete = True  # nothing under way
        """All of the answer has come."""

    def _begin(self) -> None:
        self._headers: Headers = []
        self.head: Head | None = None
        """The answer's status and headers, as soon as they are there."""
        self._head_bytes = self._interim = self._buffered = 0
        self._parts: list[bytes] = []
        self._paused = self._until_eof = self._between_pieces = self.complete = self._tainted = False
        self._error: UpstreamFailure | None = None

    # --- for the door -------------------------------------------------------------------------------------------------

    def send(self, *pieces: bytes) -> None:
        """Hands the request to the socket. From here on the exchange counts as sent."""
        self._begin()
        write = self._transport.write
        for piece in pieces:
            write(piece)

    async def chunk(self, deadline: float, named: str) -> bytes:
        """What has arrived of the body since the last time; waits for at least a byte. b"" once, at the end.

        `deadline` is loop time; `named` is what a timeout is called in its message.
        """
        while not self._parts:
            if self.complete:
                return b""
            await self.progress(deadline, named)
        return self.arrived()

    async def pour(self, sink: Sink, idle_s: float, ends_at: float, framed: Sink | None = None) -> bool:
        """Gives the body to `sink` piece by piece, in the very turn of the loop that brings it. True at its end, false when `sink` was false.

        `idle_s` seconds may pass between two pieces, `ends_at` is loop time. Raises Silent, Broken, and what `sink` raises. What comes while
        nobody pours is kept for the next one, who waits with it as `chunk` does.

        `framed` is asked first, with the bytes as they came where they begin at the begin of a piece of the chunked coding. When it is true these
        were one or more whole pieces, none of them the last, framed without extensions, and it has taken them; else `sink` gets what they carry.
        """
        if self._parts and not sink(self.arrived()):
            return False
        self._idle_s, self._ends_at = idle_s, ends_at
        self._sink, self._framed, self._declined = sink, framed, False
        try:
            while not self.complete:
                self._heard_at = self._loop.time()
                await self.progress(*self._next_deadline())
                if self._declined:
                    return False
        finally:
            self._sink = self._framed = self._framed_now = None
        return True

    def _next_deadline(self) -> tuple[float, str]:
        """Of a pour: counted from the piece that came last."""
        silent_at = self._heard_at + self._idle_s
        return (silent_at, IDLE_LIMIT) if silent_at < self._ends_at else (self._ends_at, TOTAL_LIMIT)

    def arrived(self) -> bytes:
        parts, self._parts, self._buffered = self._parts, [], 0
        if self._paused and not self.lost:
            self._paused = False
            self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pour_on(self, sink: Sink, data: bytes) -> None:
        """A piece has come, with `data`, while a task waits in `pour`, which need not wake for it."""
        self._heard_at = self._loop.time()
        try:
            more = sink(self.arrived())
        except Exception as error:  # noqa: BLE001 - whatever the sink raised is raised where the pour is awaited
            self._end_pour(error)
            return
        if not more:
            self._sink, self._declined = None, True
        if not more or self.complete:
            self._wake()
        elif (
            self._between_pieces and data[-1] == _LF
        ):  # bytes after the piece would make a whole head, so it would not be between
            self._framed_now = self._framed

    def _end_pour(self, error: Exception) -> None:
        self._sink = self._framed_now = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    @property
    def reusable(self) -> bool:
        """The exchange ended cleanly on a connection that both sides mean to keep."""
        return (
            self.complete
            and not self._tainted
            and not self._until_eof
            and not self.lost
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() == 0
        )

    @property
    def fresh(self) -> bool:
        """Whether an idle connection can still be trusted: open, and with nothing (no byte, no FIN) waiting to be read."""
        if self.lost or self._transport.is_closing():
            return False
        return not self._silence.poll(0)

    def hurry(self, deadline: float, named: str) -> None:
        """Brings the deadline of a wait that is under way forward, and of all that a pour will wait."""
        self._ends_at = min(self._ends_at, deadline)
        if self._waiter is not None and deadline < self._deadline:
            self._deadline, self._limit_named = deadline, named
            if self._timer is not None and self._timer.when() > deadline:
                self._timer.cancel()
                self._timer = self._loop.call_at(deadline, self._tick)

    def abort(self) -> None:
        """Ends the connection at once, whatever was under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.lost:
            self._transport.abort()
        self._parts = []

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def progress(self, deadline: float, named: str) -> None:
        """Waits for the head, a piece of the body or its end. Raises Silent at `deadline` (loop time), Broken when the answer is cut or no HTTP."""
        if self._error is not None:
            raise self._error
        self._deadline, self._limit_named = deadline, named
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._tick)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tick(self) -> None:
        """The lazy timer: set once, it re-arms itself while deadlines move on, instead of being moved for each chunk."""
        self._timer = None
        if self._waiter is None:
            return
        if self._sink is not None:
            self._deadline, self._limit_named = self._next_deadline()
        if self._loop.time() + 0.001 >= self._deadline:
            self._fail(Silent(self._limit_named))
        else:
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: UpstreamFailure) -> None:
        if self._error is None and not self.complete:
            self._error = error
        if not self.lost:
            self._transport.abort()
        self._wake()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        plug = transport.get_extra_info("socket")  # only here: it is None as soon as the connection was reset
        self._silence.register(plug.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self._framed_now is not None:
            try:
                if self._framed_now(data):
                    self._heard_at = self._loop.time()
                    return
            except Exception as error:  # noqa: BLE001 - as in `_pour_on`
                self._end_pour(error)
                return
            self._framed_now = None
        if self.complete:
            self._tainted = (
                True  # bytes that nobody asked for: whatever they are, this connection is no longer ours to trust
            )
            self.abort()
            return
        if self.head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Broken("the answer is not HTTP that we accept"))
            return
        if self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(Broken("the answer's headers are too long"))
        elif self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is not None and self._parts:
            self._pour_on(self._sink, data)
        elif self._waiter is not None and self.head is not None and (self._sink is None or self.complete):
            self._wake()

    def eof_received(self) -> None:
        return None  # close our side too; connection_lost tells what it meant

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.complete and self._error is None:
            if self._until_eof and exc is None:
                self.complete = True
            elif self.head is not None:
                self._error = Broken("the connection broke in the middle of the answer")
            else:
                self._error = Broken("the connection closed without an answer")
        self._wake()

    # --- llhttp's callbacks -------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # else it is a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.complete:
            self._tainted = True
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                self._refuse("the provider answered with a protocol switch or without end")
            return
        if len(self._headers) > MAX_HEADERS:  # of a piece of `MAX_HEAD_BYTES`: no more of them can have been kept
            self._refuse("the answer has too many headers")
            return
        head = Head(status, self._headers)
        get = head.get
        coding = get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            self._refuse("the answer has a transfer encoding other than chunked")
            return
        compressed = get(b"content-encoding")
        if compressed is not None and compressed.strip().lower() not in (b"identity", b""):
            self._refuse("the answer is compressed, although we asked for none")
            return
        self._until_eof = coding is None and get(b"content-length") is None and status not in (204, 304)
        stated = get(b"keep-alive")
        self.keep_idle_s = None if stated is None else _keep_alive(stated)
        self.head = head

    def on_body(self, body: bytes) -> None:
        if self.complete or self._error is not None:
            return
        self._parts.append(body)
        self._buffered += len(body)

    def on_chunk_header(self) -> None:
        self._between_pieces = False

    def on_chunk_complete(self) -> None:
        self._between_pieces = True

    def on_message_complete(self) -> None:
        if self.complete:
            self._tainted = True
        elif self.head is None:
            self._headers = []  # an interim answer (100, 103): the real one follows
        else:
            self.complete = True
            if not self._parser.should_keep_alive():
                self._tainted = True

    def _refuse(self, why: str) -> None:
        if self._error is None:
            self._error = Broken(why)
        self._loop.call_soon(self.abort)


def _keep_alive(stated: bytes) -> float | None:
    """`Keep-Alive: timeout=5` -> 5.0."""
    for part in stated.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return float(value)
    return None
