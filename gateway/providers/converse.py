"""Bedrock's own dialect, Converse: what all of its models that answer in words speak. For asking, metering and framing.

A stream is event-stream frames whose header names the event and whose payload is its JSON; usage is in `metadata`, the last one
(docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gateway.jsonbody import with_value
from gateway.providers.clouds import FramedMeter, wrapped_error
from gateway.providers.dialect import EVENT_STREAM, Dialect, Reading, StreamMeter, Wanted
from gateway.providers.eventstream import fault
from gateway.sse import Splitter, data_of, event_of

_SAID = ("serviceTier", "performanceConfig")
"""What decides the rate, beside the usage."""


class Converse:
    """Implements `Dialect`."""

    stream_type = b"application/vnd.amazon.eventstream"
    client_headers: frozenset[bytes] = frozenset()

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return f"/model/{quote(model, safe='')}/converse" + ("-stream" if streamed else "")

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.output_limit is None:
            return raw
        config = fields.get("inferenceConfig")
        config = dict(config) if isinstance(config, Mapping) else {}
        return with_value(raw, "inferenceConfig", {**config, "maxTokens": wanted.output_limit})

    def stream_meter(self, fields: Mapping[str, Any]) -> ConverseMeter:
        return ConverseMeter()

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        answer = _object(body) if "json" in content_type else None
        if answer is None or not isinstance(answer.get("output"), dict):
            return None
        reading = Reading(ended=True)
        _note_end(answer, reading)
        message = answer["output"].get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            _note_text(block, reading)
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


class OnFrames:
    """Implements `Dialect`: another dialect that reads Converse's events, behind the frames they come in."""

    stream_type = Converse.stream_type
    client_headers: frozenset[bytes] = frozenset()

    def __init__(self, inner: Dialect) -> None:
        self._inner = inner
        self.path, self.body = inner.path, inner.body
        self.read_whole, self.for_client = inner.read_whole, inner.for_client

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        return ConverseFrames(self._inner.stream_meter(fields))


class ConverseFrames(FramedMeter):
    """Implements `StreamMeter`: each frame becomes the event `{"<its name>": <its payload>}`."""

    __slots__ = ()

    def _events(self, chunk: bytes) -> Iterable[bytes]:
        for frame in self._frames.feed(chunk):
            failure = fault(frame)
            if failure is not None:
                yield wrapped_error(*failure)
                continue
            payload = _object(frame.payload)
            name = frame.headers.get(":event-type", "")
            if payload is not None and name:
                yield event_of(orjson.dumps({name: payload}))


class ConverseMeter:
    """Implements `NotingMeter`."""

    content_type = EVENT_STREAM

    def __init__(self) -> None:
        self.reading = Reading()
        self._splitter = Splitter()

    def feed(self, chunk: bytes) -> bytes:
        for event, whole in self._splitter.feed(chunk):
            if whole:
                self.note(data_of(event))
        return chunk

    def finish(self) -> bytes:
        return b""

    def error_event(self, payload: bytes) -> bytes:
        return event_of(payload)

    def note(self, data: bytes) -> None:
        """Reads the data of one event."""
        event = _object(data)
        if event is None:
            if data and "malformed_event" not in self.reading.flags:
                self.reading.flags.append("malformed_event")
            return
        reading = self.reading
        if event.get("type") == "error":
            error = event.get("error")
            reading.error = str(error.get("type") if isinstance(error, dict) else "provider_error")[:64]
        elif isinstance(event.get("contentBlockDelta"), dict):
            _note_text(event["contentBlockDelta"].get("delta"), reading)
        elif isinstance(event.get("contentBlockStart"), dict):
            reading.output_bytes += 16  # the frame of a call is generated too
        elif "messageStop" in event:
            reading.ended = True
        elif isinstance(event.get("metadata"), dict):
            _note_end(event["metadata"], reading)


def _note_end(stated: dict[str, Any], reading: Reading) -> None:
    reading.said.update({name: stated[name] for name in _SAID if isinstance(stated.get(name), dict)})
    if stated.get("usage") is not None:
        reading.raw_usage = orjson.dumps(stated["usage"])


def _note_text(block: Any, reading: Reading) -> None:
    """Of a block or of its delta."""
    if not isinstance(block, dict):
        return
    used, thought = block.get("toolUse"), block.get("reasoningContent")
    if isinstance(block.get("text"), str):
        reading.add_text(block["text"])
    elif isinstance(used, dict) and used.get("input") is not None:
        given = used["input"]
        reading.add_text(given if isinstance(given, str) else orjson.dumps(given).decode())
    elif isinstance(thought, dict):
        told = thought.get("reasoningText", thought)
        if isinstance(told, dict) and isinstance(told.get("text"), str):
            reading.add_text(told["text"])


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None
