"""An answer played on the wire as its script says, with every token on the invoice before the bytes that carry it are sent."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import bombs, sse
from gateway.simulator.dialect import Dialect, Refused
from gateway.simulator.generate import Ask, Reply
from gateway.simulator.http import ClientGone, Exchange, Headers
from gateway.simulator.invoice import Bill
from gateway.simulator.sse import Frame

BATCH = 32
"""Events sent in one write where nothing asks for time between them."""
FOREVER_S = 3600.0
_SETTLE_S = 0.03
"""Long enough for what was written to be read before a reset overtakes it."""

_REASONS = {
    400: ("We could not process your request.", "invalid_value"),
    401: ("Incorrect API key provided.", "invalid_api_key"),
    429: ("Rate limit reached for requests. Please try again later.", "rate_limit_exceeded"),
    503: ("That model is currently overloaded with other requests.", None),
    529: ("Overloaded", None),
}


class Player:
    """One response: its ask, its reply, its bill and the connection it goes to."""

    def __init__(
        self, exchange: Exchange, dialect: Dialect, ask: Ask, reply: Reply, bill: Bill, headers: Headers, at_s: int
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._ask = ask
        self._script = ask.script
        self._reply = reply
        self._bill = bill
        self._headers = headers
        self._at_s = at_s
        self._total = reply.output_tokens

    async def play(self) -> None:
        """Answer, bill, and settle the bill by the abort rule when the client leaves. Raises ClientGone then."""
        script = self._script
        if script.status >= 300:
            self._refuse()
            return
        try:
            if script.wire == "silent":
                self._bill.record(self._total, final=True)
                while True:
                    await self._exchange.pause(FOREVER_S)
            if script.wire == "rst-before":
                self._bill.record(self._total, final=True)
                self._exchange.reset()
                return
            if script.first_ms:
                self._bill.record(0)
                await self._exchange.pause(script.first_ms / 1000)
            if script.wire == "heartbeat":
                await self._heartbeat()
            elif script.body not in ("ok", "wrong-type", "truncated"):
                await self._strange_body()
            elif self._ask.stream:
                await self._stream()
            else:
                await self._whole()
        except ClientGone:
            self._aborted()
            raise
        finally:
            self._bill.record(0, final=True)

    def _refuse(self) -> None:
        script = self._script
        self._bill.record(0, final=True, billed=script.bills_errors)
        if script.status < 400:
            self._exchange.respond(
                script.status, b"", "text/plain", ((b"location", script.location.encode()), *self._headers)
            )
            return
        message, code = _REASONS.get(script.status, ("The server had an error while processing your request.", None))
        extra = ((b"retry-after", script.retry_after.encode()),) if script.retry_after else ()
        error = msgspec.json.encode(self._dialect.error(Refused(script.status, message, code=code)))
        self._exchange.respond(script.status, error, headers=(*extra, *self._headers))

    def _aborted(self) -> None:
        rule = self._script.bills_on_abort
        so_far = self._bill.output_tokens
        more = {"stops_now": so_far, "stops_after_k": min(self._total, so_far + self._script.k), "full": self._total}
        self._bill.record(more[rule], final=True)

    # whole answers
    def _body(self) -> dict[str, Any]:
        return self._dialect.whole(self._ask, self._reply, self._response_id, self._at_s)

    @property
    def _response_id(self) -> str:
        return "chatcmpl-" + self._bill.invoice

    async def _whole(self) -> None:
        self._bill.record(self._total, final=True)
        body = msgspec.json.encode(self._body())
        script, exchange = self._script, self._exchange
        if script.wire in ("cut", "rst-after"):
            exchange.head(200, "application/json", ((b"content-length", b"%d" % len(body)), *self._headers))
            exchange.write_raw(body[: len(body) // 2])
            await exchange.pause(_SETTLE_S)
            exchange.reset() if script.wire == "rst-after" else exchange.close()
            return
        if script.body == "truncated":
            body = body[: len(body) // 2]
        exchange.respond(200, body, "text/plain" if script.body == "wrong-type" else "application/json", self._headers)

    async def _strange_body(self) -> None:
        self._bill.record(self._total, final=True)
        exchange, body = self._exchange, self._script.body
        if body == "html":
            page = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
            exchange.respond(200, page, "text/html", self._headers)
        elif body == "json-error":
            error = self._dialect.error(Refused(500, "The server had an error while processing your request."))
            exchange.respond(200, msgspec.json.encode(error), headers=self._headers)
        elif body == "empty":
            exchange.respond(200, b"", headers=self._headers)
        elif body == "no-content":
            exchange.respond(204, b"", headers=self._headers)
        elif body == "gzip":
            await self._gzipped()
        else:
            await self._bomb(body)

    async def _gzipped(self) -> None:
        coding = (b"content-encoding", b"gzip")
        if self._ask.stream:
            frames = list(self._frames())
            plain = b"".join(sse.encode(frame, "ok") for frame in frames) + sse.ending(
                self._dialect.done, "ok", frames[-1]
            )
            self._exchange.respond(200, gzip.compress(plain), self._dialect.content_type, (coding, *self._headers))
        else:
            packed = gzip.compress(msgspec.json.encode(self._body()))
            self._exchange.respond(200, packed, "application/json", (coding, *self._headers))

    async def _bomb(self, kind: str) -> None:
        coding = b"br" if kind == "br-bomb" else b"gzip"
        content_type = self._dialect.content_type if self._ask.stream else "application/json"
        self._exchange.start(200, content_type, ((b"content-encoding", coding), *self._headers))
        for part in bombs.brotli_zeros(self._script.mb) if kind == "br-bomb" else bombs.gzip_zeros(self._script.mb):
            self._exchange.write(part)
            await self._exchange.flushed()
        self._exchange.finish()

    # streams
    def _frames(self) -> Iterator[Frame]:
        return self._dialect.frames(self._ask, self._reply, self._response_id, self._at_s)

    async def _heartbeat(self) -> None:
        self._bill.record(0)
        self._exchange.start(200, self._dialect.content_type, self._headers)
        while True:
            self._exchange.write(b": heartbeat\n\n")
            await self._exchange.pause(max(self._script.gap_ms, 1) / 1000)

    async def _stream(self) -> None:
        script, exchange = self._script, self._exchange
        exchange.start(200, "text/plain" if script.body == "wrong-type" else self._dialect.content_type, self._headers)
        if self._writes_batches:
            await self._stream_fast()
            return
        last = Frame({}, 0)
        told = 0
        for number, frame in enumerate(self._frames()):
            if number == script.k and await self._broken_off(frame):
                return
            if script.gap_ms and frame.tokens > told:
                await exchange.pause(script.gap_ms / 1000)
            told = frame.tokens
            self._bill.record(told)
            if script.sse == "huge-line" and number == 1:
                frame.payload["obfuscation"] = "x" * (script.mb << 20)
            for segment in sse.segments(sse.encode(frame, script.sse), script.sse):
                exchange.write(segment)
                await exchange.flushed()
            last = frame
        self._bill.record(self._total, final=True)
        exchange.finish(sse.ending(self._dialect.done, script.sse, last))

    @property
    def _writes_batches(self) -> bool:
        script = self._script
        return not script.gap_ms and script.wire == "ok" and script.body != "truncated" and script.sse in _PLAIN_SSE

    async def _stream_fast(self) -> None:
        """As fast as it goes: one line on the invoice and one write for each batch of events."""
        variant = self._script.sse
        batch: list[bytes] = []
        last = Frame({}, 0)
        for frame in self._frames():
            batch.append(sse.encode(frame, variant))
            last = frame
            if len(batch) >= BATCH and frame.tokens < self._total:
                self._bill.record(frame.tokens)
                self._exchange.write(b"".join(batch))
                batch.clear()
                await self._exchange.flushed()
        self._bill.record(self._total, final=True)
        batch.append(sse.ending(self._dialect.done, variant, last))
        self._exchange.finish(b"".join(batch))

    async def _broken_off(self, frame: Frame) -> bool:
        """End the stream here if the script wants it. The tokens of the frame that is not sent whole are billed too."""
        script, exchange = self._script, self._exchange
        torn = sse.encode(frame, "ok")
        torn = torn[: len(torn) // 2]
        if script.wire in ("rst-after", "cut"):
            self._bill.record(frame.tokens, final=True)
            if script.wire == "cut":
                exchange.write(torn)
            await exchange.pause(_SETTLE_S)
            exchange.reset() if script.wire == "rst-after" else exchange.close()
            return True
        if script.body == "truncated":
            self._bill.record(frame.tokens, final=True)
            exchange.write(torn)
            exchange.finish()
            return True
        if script.sse == "error":
            self._bill.record(frame.tokens, final=True)
            error = self._dialect.error(Refused(500, "The server had an error while processing your request."))
            exchange.write(sse.encode(Frame(error, 0, "error" if error.get("type") == "error" else ""), "ok"))
            exchange.finish()
            return True
        return False


_PLAIN_SSE = {"ok", "crlf", "cr", "nospace", "multiline", "comments", "no-done", "two-dones", "after-done", "nul"}
