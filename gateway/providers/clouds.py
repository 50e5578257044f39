"""Claude and Gemini where the clouds sell them: the models' own APIs behind the clouds' paths, versions and framing.

Bedrock's InvokeModel and Vertex's rawPredict take a messages body without `model` and with an `anthropic_version` of their own, and answer as
Anthropic does, usage included (platform.claude.com/docs/en/build-with-claude/claude-on-amazon-bedrock and .../claude-on-vertex-ai; the SDK's
`anthropic.lib.bedrock` and `.vertex`). Converse would translate the usage as well; invoking keeps the split of cache writes that the bill needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gateway.jsonbody import with_first, with_value, without
from gateway.providers.dialect import STREAM_TYPE, Dialect, Reading, StreamMeter, Wanted
from gateway.providers.eventstream import Frames, fault, model_event
from gateway.sse import event_of

BEDROCK_VERSION = "bedrock-2023-05-31"
VERTEX_VERSION = "vertex-2023-10-16"


class _Wrapped:
    """Another dialect behind a cloud's door. Implements what of `Dialect` stays the same."""

    stream_type = STREAM_TYPE

    def __init__(self, inner: Dialect) -> None:
        self.inner = inner
        self.client_headers = inner.client_headers

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        return self.inner.body(raw, fields, wanted, limit_field)

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        return self.inner.stream_meter(fields)

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        return self.inner.read_whole(body, content_type)

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return self.inner.for_client(body, fields)


class ClaudeOnBedrock(_Wrapped):
    """Implements `Dialect`."""

    stream_type = b"application/vnd.amazon.eventstream"

    def __init__(self, inner: Dialect) -> None:
        super().__init__(inner)
        self.client_headers = frozenset()  # betas go into the body (`with_betas`)

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return f"/model/{quote(model, safe='')}/invoke" + ("-with-response-stream" if streamed else "")

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        raw = self.inner.body(raw, fields, Wanted(output_limit=wanted.output_limit), limit_field)
        return _versioned(without(raw, "model", "stream", "anthropic_beta"), BEDROCK_VERSION)

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        return FramedMeter(self.inner.stream_meter(fields))


class OpenAIOnBedrock(_Wrapped):
    """Implements `Dialect`: OpenAI's open models in OpenAI's own API, which Bedrock's runtime has beside its own
    (docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html); signed or with a Bedrock API key as all of it."""

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return "/openai/v1" + self.inner.path(endpoint, model, streamed=streamed)


class ClaudeOnVertex(_Wrapped):
    """Implements `Dialect`."""

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        verb = "streamRawPredict" if streamed else "rawPredict"
        return f"/publishers/anthropic/models/{quote(model, safe='@')}:{verb}"

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        raw = self.inner.body(raw, fields, Wanted(output_limit=wanted.output_limit), limit_field)
        return _versioned(without(raw, "model", "anthropic_beta"), VERTEX_VERSION)


class CountOnVertex(_Wrapped):
    """Implements `Dialect`. Counting names its model in the body, and a path of its own."""

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return "/publishers/anthropic/models/count-tokens:rawPredict"

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        return _versioned(self.inner.body(raw, fields, wanted, limit_field), VERTEX_VERSION)


class GeminiOnVertex(_Wrapped):
    """Implements `Dialect`: the same API under its publisher's path."""

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return "/publishers/google" + self.inner.path(endpoint, model, streamed=streamed)


class FramedMeter:
    """Implements `StreamMeter`: frames come in, the inner meter gets them as the server-sent events of the model's own API."""

    __slots__ = ("_frames", "_inner")

    def __init__(self, inner: StreamMeter) -> None:
        self._inner = inner
        self._frames = Frames()

    @property
    def reading(self) -> Reading:
        return self._inner.reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        self._inner.reading = reading

    @property
    def content_type(self) -> bytes:
        return self._inner.content_type

    def feed(self, chunk: bytes) -> bytes:
        shown = b"".join([self._take(event) for event in self._events(chunk)])
        if self._frames.broken and "malformed_frame" not in self.reading.flags:
            self.reading.flags.append("malformed_frame")
        return shown

    def finish(self) -> bytes:
        if self._frames.halfway:
            self.reading.flags.append("malformed_frame")
        return self._inner.finish()

    def error_event(self, payload: bytes) -> bytes:
        return self._inner.error_event(payload)

    def _take(self, event: bytes) -> bytes:
        return self._inner.feed(event)

    def _events(self, chunk: bytes) -> Iterable[bytes]:
        for frame in self._frames.feed(chunk):
            failure = fault(frame)
            if failure is not None:
                yield wrapped_error(*failure)
                continue
            event = model_event(frame)
            if event is not None:
                yield event_of(event, _name_of(event))


def wrapped_error(kind: str, message: str) -> bytes:
    """A frame's failure as an error event."""
    return event_of(orjson.dumps({"type": "error", "error": {"type": kind, "message": message}}), b"error")


def _name_of(event: bytes) -> bytes:
    try:
        kind = orjson.loads(event)["type"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return b""
    return str(kind)[:64].encode("ascii", "ignore") if isinstance(kind, str) and kind.isidentifier() else b""


def _versioned(raw: bytes, version: str) -> bytes:
    """The version that the cloud demands, whatever the client wrote."""
    return with_first(without(raw, "anthropic_version"), "anthropic_version", version)


def with_betas(raw: bytes, forwarded: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The client's beta header as the body's field, where a cloud wants it there."""
    betas = [
        beta.strip() for name, value in forwarded if name == b"anthropic-beta" for beta in value.decode().split(",")
    ]
    return with_value(raw, "anthropic_beta", [beta for beta in betas if beta]) if any(betas) else raw
