"""One outgoing WebSocket: an asyncio protocol around websockets' sans-I/O client. Text messages only; backpressure in both directions.

It asks for no extension and no subprotocol, accepts no redirect, and notices a peer that has gone by pings of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import WebSocketURI

from gateway.upstream.failures import Broken, Silent, UpstreamFailure

HIGH_WATER = 256 * 1024
"""Bytes of messages that wait for their reader before the peer is not read any more."""
PING_EVERY_S = 20.0
GONE_AFTER_S = 60.0
"""A peer that sends nothing for so long, not even a pong, has gone."""
CLOSE_S = 2.0


class Declined(UpstreamFailure):
    """The peer answered the handshake with something else than yes. Nothing was opened."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"the WebSocket was declined with status {response.status_code}")
        self.status = response.status_code
        self.body = bytes(response.body or b"")[: 256 * 1024]
        self._headers = response.headers

    def get(self, name: bytes) -> bytes | None:
        """A header of the answer by its lower-case name."""
        values = self._headers.get_all(name.decode("ascii"))
        return values[0].encode("latin-1", "replace") if values else None


class Socket(asyncio.Protocol):
    """Made by `Door.open_socket`. `receive` until None, `send` meanwhile, `close` at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uri: WebSocketURI, most_bytes: int) -> None:
        self._loop = loop
        self._wire = ClientProtocol(uri, max_size=most_bytes)
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._pieces: list[bytes] = []
        self._failure: UpstreamFailure | None = None
        self._opened: asyncio.Future[None] = loop.create_future()
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = self._lost = False
        self._heard_at = loop.time()
        self._pinger: asyncio.TimerHandle | None = None
        self.close_code = 0
        """What the peer closed it with; 0 while it is open, 1006 when it broke off."""
        self.close_reason = ""

    # --- for the door -------------------------------------------------------------------------------------------------

    async def shake(self, headers: Sequence[tuple[str, str]]) -> None:
        """Sends the handshake and waits for its answer. Raises Declined, Broken."""
        request = self._wire.connect()
        for name, value in headers:
            request.headers[name] = value
        self._wire.send_request(request)
        self._flush()
        await self._opened
        self._pinger = self._loop.call_later(PING_EVERY_S, self._ping)

    # --- for its user -------------------------------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """The next text message; None at the end (`close_code` says how). Raises Silent when the peer has gone."""
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self.close_code or self._lost:
                return None
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        if self._paused and self._waiting_bytes < HIGH_WATER and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return message

    async def send(self, text: bytes) -> None:
        """Waits while the peer does not read. Raises Broken when it has gone."""
        await self._writable.wait()
        self.put(text)

    def put(self, text: bytes) -> None:
        """Without waiting: for the few words of whoever reads from it, who would else wait for a peer that waits for him. Raises Broken."""
        if self._lost or self._wire.state is not OPEN:
            raise Broken("the connection to the provider has ended")
        self._wire.send_text(text)
        self._flush()

    async def close(self, code: int = 1000) -> None:
        """Says goodbye and waits a moment for the answer."""
        if not self._lost and self._wire.state is OPEN:
            self._wire.send_close(code)
            self._flush()
            with contextlib.suppress(TimeoutError, UpstreamFailure):
                async with asyncio.timeout(CLOSE_S):
                    while await self.receive() is not None:
                        pass
        self.abort()

    def abort(self) -> None:
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None
        if not self._lost:
            self._transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._wire.receive_data(data)
        self._take()

    def eof_received(self) -> None:
        self._wire.receive_eof()
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        if not self.close_code:
            self.close_code = 1006
        if not self._opened.done():
            self._opened.set_exception(Broken("the provider closed the connection instead of opening a WebSocket"))
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- Inside -------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        for event in self._wire.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame):
                self._frame(event)
        if self._wire.handshake_exc is not None and not self._opened.done():
            self._opened.set_exception(_failed_handshake(self._wire.handshake_exc))
        if self._wire.parser_exc is not None and not self.close_code:
            self.close_code = 1006
            self._wake()
        if not self._lost:
            self._flush()

    def _answered(self, response: Response) -> None:
        if self._opened.done():
            return
        if response.status_code != 101:
            self._opened.set_exception(Declined(response))
        elif self._wire.handshake_exc is None:
            self._opened.set_result(None)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                message = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces = []
                self._messages.append(message)
                self._waiting_bytes += len(message)
                if self._waiting_bytes > HIGH_WATER and not self._paused:
                    self._paused = True
                    self._transport.pause_reading()
                self._wake()
        elif frame.opcode is Opcode.CLOSE:
            said = self._wire.close_rcvd  # `close_code` of the wire is only known when the connection has gone
            self.close_code = said.code if said is not None else 1005
            self.close_reason = said.reason if said is not None else ""
            self._wake()

    def _flush(self) -> None:
        for piece in self._wire.data_to_send():
            if piece:
                self._transport.write(piece)
            else:  # the half-close that ends a closing handshake
                self._transport.close()

    def _ping(self) -> None:
        if self._lost:
            return
        if self._loop.time() - self._heard_at > GONE_AFTER_S and not self._paused:
            self._failure = Silent("the provider does not answer any more")
            self._transport.abort()
            self._wake()
            return
        if self._wire.state is OPEN:
            self._wire.send_ping(b"sluice")
            self._flush()
        self._pinger = self._loop.call_later(PING_EVERY_S, self._ping)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _failed_handshake(error: Exception) -> UpstreamFailure:
    if isinstance(error, InvalidStatus):
        return Declined(error.response)
    return Broken("the provider's answer to the WebSocket handshake cannot be read")
