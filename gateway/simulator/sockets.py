"""The simulator's side of a WebSocket: websockets' sans-I/O server on a transport that the HTTP connection hands over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.simulator.http import Connection

Talk = Callable[["Peer"], Awaitable[None]]


class Peer(asyncio.Protocol):
    """`receive` until None, `send` meanwhile. The conversation runs as a task of its own and ends with the connection."""

    def __init__(self, talk: Talk, http: Connection) -> None:
        self._http = http
        self._talk = talk
        self._wire = ServerProtocol(max_size=32 << 20)
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._pieces: list[bytes] = []
        self.task: asyncio.Task[None] | None = None

    def take_over(self, transport: asyncio.Transport, head: bytes) -> None:
        """From the HTTP connection, with the request as it came."""
        self._transport = transport
        transport.set_protocol(self)
        self.data_received(head)

    async def receive(self) -> bytes | None:
        return await self._messages.get()

    def send(self, text: bytes) -> bool:
        """False when nobody is there any more."""
        if self._wire.state is not OPEN or self._transport.is_closing():
            return False
        self._wire.send_text(text)
        self._flush()
        return True

    def close(self, code: int = 1000) -> None:
        if self._wire.state is OPEN:
            self._wire.send_close(code)
            self._flush()

    def drop(self) -> None:
        """Break off without a word."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)
        self._messages.put_nowait(None)

    def data_received(self, data: bytes) -> None:
        self._wire.receive_data(data)
        for event in self._wire.events_received():
            if isinstance(event, Handshake):
                self._wire.send_response(self._wire.accept(event))
                self.task = self._http.task = asyncio.get_running_loop().create_task(self._run())
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._pieces.append(bytes(event.data))
                if event.fin:
                    self._messages.put_nowait(b"".join(self._pieces))
                    self._pieces = []
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                self._messages.put_nowait(None)
        self._flush()

    async def _run(self) -> None:
        await self._talk(self)
        self.close()

    def _flush(self) -> None:
        for piece in self._wire.data_to_send():
            if piece:
                self._transport.write(piece)
            else:
                self._transport.close()


def head_of(url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request's head again, for the WebSocket's own parser."""
    lines = [b"GET " + url + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
