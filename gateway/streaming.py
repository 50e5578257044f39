"""A streamed answer on its way to the client: chunks pass as they come, the meter reads along, and the end is always settled.

When the client hangs up the answer is drained (bounded in time, bytes and number) so that it is billed by its real usage: hanging up early
never dodges the bill.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import cast

from gateway import crash
from gateway.attempt import Attempt
from gateway.edge import Flow, Receive, Send
from gateway.errors import GatewayError, Headers, ProviderBadResponse, ProviderTimeout, Restarting
from gateway.providers.dialect import LearningMeter, StreamMeter
from gateway.providers.template import EventTemplate
from gateway.surfaces import OPENAI, Surface
from gateway.upstream import Answer, Broken, Silent, UpstreamFailure

DRAIN_S = 120.0
DRAIN_BYTES = 16 * 1024 * 1024
MAX_DRAINS = 500
MOST_TEXTS = 500
"""Pieces of text that have passed and are not in the reading yet."""
STALL_S = 60.0
"""A client that takes no byte for so long has left."""


@dataclass(slots=True)
class Drains:
    """Shared by the streams of one process."""

    running: int = 0
    """Answers without a client that this process is reading to their end."""


class Relay:
    """One stream from provider to client. `run` returns when the attempt is settled and the client has its end, or has left."""

    def __init__(
        self,
        call_id: str,
        answer: Answer,
        meter: StreamMeter,
        attempt: Attempt,
        drains: Drains,
        send: Send,
        receive: Receive,
        surface: Surface = OPENAI,
    ) -> None:
        self._call_id = call_id
        self._surface = surface
        self._answer = answer
        self._meter = meter
        self._attempt = attempt
        self._drains = drains
        self._send = send
        self._flow: Flow | None = getattr(send, "flow", None)
        self._learns = cast("LearningMeter", meter) if hasattr(meter, "template") else None
        self._template: EventTemplate | None = None
        """None, also, when the client has left"""
        self._texts: list[str] = []
        self._receive = receive
        self._gone = False
        self._last = b""
        """What the client got last"""
        self._drained = 0
        self._kept_back = b""
        self._settled = False

    async def first(self) -> bytes:
        """The first bytes for the client; until they are here an error can still be a plain JSON answer. Raises UpstreamFailure."""
        while chunk := await self._answer.chunk():
            if passed := self._meter.feed(chunk):
                return passed
        return self._finish()

    async def run(self, first: bytes, headers: Headers) -> None:
        await self._tell({"type": "http.response.start", "status": 200, "headers": headers})
        watcher = asyncio.ensure_future(self._watch())
        try:
            await self._pass(first)
            await self._relay()
        except UpstreamFailure as failure:
            await self._break_off(_as_error(failure))
        except asyncio.CancelledError:  # the server's grace is over
            await self._break_off(Restarting("The gateway restarts and cut this answer off."))
            raise
        finally:
            self._drains.running -= self._gone
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    async def _relay(self) -> None:
        while not await self._answer.pour(self._take, self._take_framed):
            passed, self._kept_back = self._kept_back, b""
            await self._pass(passed)
        rest = self._finish()
        if not (self._meter.reading.ended or self._meter.reading.error):
            raise Broken("the stream closed before its answer had ended")
        if rest:
            await self._pass(rest)
        await self._tell({"type": "http.response.body", "body": b""})

    def _take(self, chunk: bytes) -> bool:
        """A piece from the provider, on to the client where that need not wait: nearly always. Else it is kept back, and the provider waits."""
        self._note_texts()
        passed = self._meter.feed(chunk)
        if self._gone:
            self._drained += len(chunk)
            if self._drained > DRAIN_BYTES:
                raise Silent("the client left and the rest of the answer is too long to read")
            return True
        if self._learns is not None:
            self._template = self._learns.template()
        if passed:
            flow = self._flow
            if flow is None or flow.write_paused:
                self._kept_back = passed
                return False
            self._last = passed
            flow.pass_on(passed)
            crash.point("after_chunk")
        return True

    def _take_framed(self, wire: bytes) -> bool:
        """The short way of nearly all that comes: events that only add text, each a piece of the chunked coding. They pass as they are."""
        template, flow = self._template, self._flow
        if template is None or flow is None:
            return False
        text = template.text_of_piece(wire)
        if text is not None:
            if not flow.pass_framed(wire):
                return False
            self._texts.append(text)
        else:  # perhaps several that came together
            texts = template.texts_of(wire)
            if texts is None or not flow.pass_framed(wire):
                return False
            self._texts += texts
        if len(self._texts) > MOST_TEXTS:
            self._note_texts()
        if crash.ARMED:
            crash.point("after_chunk")
        return True

    def _note_texts(self) -> None:
        """What passed the short way, into the reading."""
        if self._texts and self._learns is not None:
            texts, self._texts = self._texts, []
            self._learns.add_texts(texts)

    def _finish(self) -> bytes:
        """The provider's side is complete: settle now, whatever the client still does."""
        self._note_texts()
        rest = self._meter.finish()
        crash.point("after_last_byte")
        self._settle("")
        return rest

    def _settle(self, error: str) -> None:
        if self._settled:
            return
        self._settled = True
        self._note_texts()
        self._attempt.settle(self._meter.reading, 200, "client_closed" if self._gone else error)
        crash.point("after_finish")

    async def _pass(self, passed: bytes) -> None:
        if self._gone:
            return
        self._last = passed
        await self._tell({"type": "http.response.body", "body": passed, "more_body": True})
        crash.point("after_chunk")

    async def _tell(self, message: dict[str, object]) -> None:
        if self._gone:
            return
        try:
            if self._flow is not None and not self._flow.write_paused:
                await self._send(message)  # does not wait, hence no deadline
                return
            async with asyncio.timeout(STALL_S):
                await self._send(message)
        except (TimeoutError, OSError):
            self._leave()

    async def _watch(self) -> None:
        """Waits for the client to hang up."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                return

    def _leave(self) -> None:
        if self._gone:
            return
        self._gone, self._template = True, None
        self._answer.end_within(DRAIN_S if self._drains.running < MAX_DRAINS else 0)
        self._drains.running += 1

    async def _break_off(self, error: GatewayError) -> None:
        self._answer.abort()
        self._settle(error.code)
        payload = self._meter.error_event(self._surface.payload(error, self._call_id))
        if self._last[-1:] not in (b"", b"\n", b"\r"):  # half an event: none of ours can follow it as it is
            payload = b"\n\n" + payload
        await self._tell({"type": "http.response.body", "body": payload, "more_body": True})
        await self._tell({"type": "http.response.body", "body": b""})


def _as_error(failure: UpstreamFailure) -> GatewayError:
    if isinstance(failure, Silent):
        return ProviderTimeout("The provider went silent in the middle of its answer.")
    return ProviderBadResponse("The provider broke off in the middle of its answer.")
