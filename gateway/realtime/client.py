"""The client's side of a session: what it is told. Sending to a client that has left is no error, it is remembered."""

from __future__ import annotations

import asyncio
import contextlib

import orjson

from gateway.edge import Receive, Send
from gateway.errors import GatewayError
from gateway.realtime.closing import Ended
from workspaces.ids import uuid7_text

STALL_S = 60.0


class Client:
    def __init__(self, receive: Receive, send: Send) -> None:
        self.receive = receive
        self._send = send
        self.gone = False

    async def tell(self, raw: bytes) -> None:
        """At its pace. One that takes nothing for long has left."""
        if self.gone:
            return
        try:
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.send", "text": raw.decode("utf-8", "replace")})
        except (TimeoutError, OSError):
            self.gone = True

    async def tell_error(self, error: GatewayError | None, event_id: object = None) -> None:
        if error is None:
            return
        stated = orjson.loads(error.payload(uuid7_text()))["error"]
        stated["event_id"] = event_id if isinstance(event_id, str) else None
        await self.tell(orjson.dumps({"type": "error", "event_id": "sluice_" + uuid7_text(), "error": stated}))

    async def say_goodbye(self, ended: Ended) -> None:
        if self.gone:
            return
        self.gone = True
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.close", "code": ended.code, "reason": ended.reason[:120]})
