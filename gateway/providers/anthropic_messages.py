"""The Anthropic messages dialect. A stream is named events; its usage is in `message_start` and, cumulative, in each `message_delta`.

The start's output count is a placeholder: a stream counts as metered only when a delta has said why it stopped (BILLING.md 1.2 and 1.5).
Every event passes as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from billing.domain.extraction.anthropic import merged
from gateway.jsonbody import with_value
from gateway.providers.dialect import EVENT_STREAM, STREAM_TYPE, Reading, Wanted, stated
from gateway.providers.template import MOST_LESSONS, EventTemplate, learn
from gateway.sse import Splitter, data_of, event_of

_PATHS = {"/anthropic/v1/messages": "/messages", "/anthropic/v1/messages/count_tokens": "/messages/count_tokens"}
_FRAME_BYTES = 16
"""The frame of a tool call is generated too."""
MAX_TOOL_BLOCKS = 1_000
SMALLEST_BUDGET = 1_024
"""Of thinking, in tokens."""


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Block(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    data: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    stop_reason: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


class _Event(msgspec.Struct):
    type: str | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_EVENTS = msgspec.json.Decoder(_Event)
_MESSAGES = msgspec.json.Decoder(_Message)


class AnthropicMessages:
    """Implements `Dialect`."""

    stream_type = STREAM_TYPE
    client_headers = frozenset({b"anthropic-beta", b"idempotency-key"})

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return _PATHS[endpoint]

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.output_limit is not None:
            raw = with_value(raw, "max_tokens", wanted.output_limit)
            thinking = _thinking_within(fields.get("thinking"), wanted.output_limit)
            if thinking is not None:
                raw = with_value(raw, "thinking", thinking)
        if wanted.model is not None:
            raw = with_value(raw, "model", wanted.model)
        return raw

    def stream_meter(self, fields: Mapping[str, Any]) -> MessagesMeter:
        return MessagesMeter()

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        if "json" not in content_type:
            return None
        message = _decode(_MESSAGES, body)
        if message is None or message.content is None:
            return None
        reading = Reading(ended=True)
        _identify(message, reading)
        for block in message.content:
            _note_block(block, reading)
        reading.raw_usage = stated(message.usage)
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


def _thinking_within(thinking: Any, limit: int) -> dict[str, Any] | None:
    """The thinking to ask for when a lowered limit leaves no room for the budget that was given; None when it still fits.

    A budget must be less than `max_tokens` and at least 1,024, or the call is refused.
    """
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if type(budget) is not int or budget < limit:
        return None
    return {**thinking, "budget_tokens": limit // 2} if limit >= 2 * SMALLEST_BUDGET else {"type": "disabled"}


class MessagesMeter:
    """Implements `StreamMeter`. Gives whole events only."""

    __slots__ = ("_deltas", "_events", "_lessons", "_start", "_template", "_texts", "reading")
    content_type = EVENT_STREAM

    def __init__(self) -> None:
        self.reading = Reading()
        self._events = Splitter()
        self._start: dict[str, Any] = {}
        self._deltas: list[dict[str, Any]] = []
        self._lessons = 0
        self._template: EventTemplate | None = None
        self._texts: list[tuple[str, str]] = []
        """Of the event that was read last, when it only adds text: the fields that say it, and the text"""

    def template(self) -> EventTemplate | None:
        return self._template if self._events.between_events else None

    def add_texts(self, texts: list[str]) -> None:
        for text in texts:
            if text:
                _add(text, self.reading)

    def feed(self, chunk: bytes) -> bytes:
        events = self._events.feed(chunk)
        for event, whole in events:
            if not whole:
                continue
            text = self._template.text_of(event) if self._template is not None else None
            if text is not None:
                self.add_texts([text])
                continue
            data = data_of(event)
            self.note(data)
            if len(self._texts) == 1 and self._lessons < MOST_LESSONS:
                self._lessons += 1
                self._template = learn(event, data, *self._texts[0]) or self._template
        return events[0][0] if len(events) == 1 else b"".join(event for event, _ in events)

    def finish(self) -> bytes:
        rest = self._events.rest()
        if rest.strip():
            self.note(data_of(rest))
        if self._events.oversized:
            self.reading.flags.append("oversized_event")
        return rest

    def error_event(self, payload: bytes) -> bytes:
        return event_of(payload, b"error")

    def note(self, data: bytes) -> None:
        """Reads the data of one event."""
        self._texts = []
        if not data:
            return
        reading = self.reading
        event = _decode(_EVENTS, data)
        if event is None:
            if "malformed_event" not in reading.flags:
                reading.flags.append("malformed_event")
            reading.output_bytes += len(data)  # whatever it says counts, so that the bound stays one
            return
        kind, delta = event.type, event.delta
        if kind == "content_block_delta" and delta is not None:
            said = (("text", delta.text), ("thinking", delta.thinking), ("partial_json", delta.partial_json))
            self._texts = [(field, text) for field, text in said if text]
            for _, text in self._texts:
                _add(text, reading)
        elif kind == "content_block_start" and event.content_block is not None:
            _note_block(event.content_block, reading)
        elif kind == "message_start" and event.message is not None:
            _identify(event.message, reading)
            self._start = _plain(event.message.usage)
        elif kind == "message_delta":
            self._note_delta(event)
        elif kind == "message_stop":
            reading.ended = True
        elif kind == "error":
            reading.error = error_type(stated(event.error))

    def _note_delta(self, event: _Event) -> None:
        usage = _plain(event.usage)
        if usage:
            self._deltas = [merged({}, [*self._deltas, usage])] if self._deltas else [usage]
        if self._deltas and event.delta is not None and event.delta.stop_reason is not None:
            self.reading.raw_usage = orjson.dumps(merged(self._start, self._deltas))


def _decode(decoder: Any, data: bytes) -> Any:
    """The event or message; with odd types, as much of it as has the types we know. None when it is no JSON object."""
    try:
        return decoder.decode(data)
    except (msgspec.ValidationError, UnicodeDecodeError):
        pass
    except msgspec.DecodeError:
        return None
    try:
        plain = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return _lenient(decoder.type, plain) if type(plain) is dict else None


_OBJECTS = frozenset({"message", "content", "delta", "content_block"})


def _lenient(kind: type, plain: dict[str, Any]) -> Any:
    """Field by field, so that an odd extra does not lose the usage."""
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        value = plain.get(field.name)
        if value is None:
            continue
        if field.type is msgspec.Raw:
            kept[field.name] = msgspec.Raw(orjson.dumps(value))
        elif field.name == "message" and type(value) is dict:
            kept[field.name] = _lenient(_Message, value)
        elif field.name == "content" and type(value) is list:
            kept[field.name] = [_lenient(_Block, block) for block in value if type(block) is dict]
        elif field.name == "delta" and type(value) is dict:
            kept[field.name] = _lenient(_Delta, value)
        elif field.name == "content_block" and type(value) is dict:
            kept[field.name] = _lenient(_Block, value)
        elif type(value) is str and field.name not in _OBJECTS:
            kept[field.name] = value
    return kind(**kept)


def _plain(raw: msgspec.Raw) -> dict[str, Any]:
    usage = stated(raw)
    if not usage:
        return {}
    try:
        value = orjson.loads(usage)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {"input_tokens": value}  # a usage that is no object: billing says so


def _identify(message: _Message, reading: Reading) -> None:
    for name, value in (("id", message.id), ("model", message.model)):
        if value and name not in reading.said:
            reading.said[name] = value[:200]
    error = stated(message.error)
    if error:
        reading.error = error_type(error)


def _note_block(block: _Block, reading: Reading) -> None:
    for text in (block.text, block.thinking, block.data):
        if text:
            _add(text, reading)
    if block.type in ("tool_use", "server_tool_use"):
        _add((block.name or "") + bytes(block.input).decode("utf-8", "replace"), reading)
        reading.output_bytes += _FRAME_BYTES
    if block.type == "server_tool_use":  # billing looks for tools that are billed by time
        blocks = reading.said.setdefault("content", [])
        if len(blocks) < MAX_TOOL_BLOCKS:
            blocks.append({"type": "server_tool_use", "name": (block.name or "")[:100]})


def _add(text: str, reading: Reading) -> None:
    """Claude's tokens are not bounded by bytes but by twice their number (BILLING.md, Bounds)."""
    before = reading.output_bytes
    reading.add_text(text)
    reading.output_bytes += reading.output_bytes - before


def error_type(raw: bytes) -> str:
    try:
        error = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "provider_error"
    kind = error.get("type") if type(error) is dict else None
    return kind[:64] if type(kind) is str else "provider_error"
