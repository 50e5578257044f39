"""`sim-instant`: a canned answer with next to no CPU, so that a benchmark measures the gateway and not the provider.

Every answer counts 4 input and 2 output tokens and is on the invoice like any other.
"""

from __future__ import annotations

import time

import msgspec

from gateway.simulator.catalogue import MODELS
from gateway.simulator.invoice import Book

INPUT_TOKENS, OUTPUT_TOKENS = 4, 2
_COST = MODELS["sim-instant"].cost_nano(input_tokens=INPUT_TOKENS, cached_tokens=0, output_tokens=OUTPUT_TOKENS)
_USAGE = (
    b'{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
)
_WHOLE = (
    b'{"id":"chatcmpl-inv_%016x","object":"chat.completion","created":%d,"model":"sim-instant","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello!","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
    b'"service_tier":"default","system_fingerprint":"fp_simulator","usage":' + _USAGE + b"}"
)
_CHUNK = (
    b'data: {"id":"chatcmpl-inv_%016x","object":"chat.completion.chunk","created":%d,"model":"sim-instant",'
    b'"service_tier":"default","system_fingerprint":"fp_simulator","choices":[%b]%b}\n\n'
)
_DELTAS = (
    b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}',
    b'{"index":0,"delta":{"content":"Hell"},"logprobs":null,"finish_reason":null}',
    b'{"index":0,"delta":{"content":"o!"},"logprobs":null,"finish_reason":null}',
    b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}',
)
_LINE = (
    b'{"invoice":"inv_%016x","attempt":%b,"model":"sim-instant","script":"ok","input_tokens":4,"cached_tokens":0,'
    b'"output_tokens":2,"cost_nano":%d,"billed":true,"final":true,"at":%d}\n'
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-request-id: req_inv_%016x\r\n%b\r\nconnection: keep-alive\r\n\r\n%b"


class _Options(msgspec.Struct):
    include_usage: bool = False


class _Ask(msgspec.Struct):
    """The fields that can change the canned answer. Anything that asks for more than it goes the long way."""

    model: str
    messages: msgspec.Raw
    stream: bool = False
    stream_options: _Options | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_DECODER = msgspec.json.Decoder(_Ask)


class InstantAnswers:
    def __init__(self, book: Book, path: str, attempt_header: str) -> None:
        self._book = book
        self._path = path.encode()
        self._attempt_header = attempt_header.lower().encode()

    def __call__(self, url: bytes, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer, already on the invoice, or None when this is not a plain request for sim-instant."""
        if url != self._path or b'sim-instant"' not in body:
            return None
        try:
            ask = _DECODER.decode(body)
        except msgspec.MsgspecError:
            return None
        limit = ask.max_completion_tokens or ask.max_tokens or OUTPUT_TOKENS
        if ask.model != "sim-instant" or limit < OUTPUT_TOKENS or ask.n not in (None, 1):
            return None
        attempt = b"null"
        for name, value in headers:
            lower = name.lower()
            if lower == self._attempt_header:
                attempt = msgspec.json.encode(value.decode("latin-1"))
            elif lower == b"x-sim-script" or (lower == b"authorization" and b"sim-bad" in value):
                return None
        at_ms = time.time_ns() // 1_000_000
        number = self._book.enter_instant(INPUT_TOKENS, OUTPUT_TOKENS, _COST)
        self._book.write_encoded(_LINE % (number, attempt, _COST, at_ms))
        if not ask.stream:
            body = _WHOLE % (number, at_ms // 1000)
            return _HEAD % (b"application/json", number, b"content-length: %d" % len(body), body)
        return self._stream(number, at_ms // 1000, usage=bool(ask.stream_options and ask.stream_options.include_usage))

    def _stream(self, number: int, at_s: int, *, usage: bool) -> bytes:
        empty = b',"usage":null' if usage else b""
        events = [_CHUNK % (number, at_s, delta, empty) for delta in _DELTAS]
        if usage:
            events.append(_CHUNK % (number, at_s, b"", b',"usage":' + _USAGE))
        events.append(b"data: [DONE]\n\n")
        body = b"".join(events)
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return _HEAD % (b"text/event-stream; charset=utf-8", number, b"transfer-encoding: chunked", chunked)
