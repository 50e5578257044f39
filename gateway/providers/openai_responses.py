"""The OpenAI responses dialect: typed events; the usage is in the response object of the last one (completed, incomplete or failed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.jsonbody import with_value
from gateway.providers.dialect import EVENT_STREAM, OPENAI_HEADERS, STREAM_TYPE, Reading, Wanted
from gateway.sse import Splitter, data_of, event_of

FINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_PATHS = {"/v1/responses": "/responses", "/v1/responses/input_tokens": "/responses/input_tokens"}
_SAID = ("id", "object", "model", "service_tier", "status", "tool_usage")
_ITEM_FACTS = ("type", "action", "container_id")
MAX_ITEMS = 2_000


class OpenAIResponses:
    """Implements `Dialect`."""

    stream_type = STREAM_TYPE
    client_headers = OPENAI_HEADERS

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return _PATHS[endpoint]

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.output_limit is not None:
            raw = with_value(raw, "max_output_tokens", wanted.output_limit)
        if wanted.model is not None:
            raw = with_value(raw, "model", wanted.model)
        return raw

    def stream_meter(self, fields: Mapping[str, Any]) -> ResponsesMeter:
        return ResponsesMeter()

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        if "json" not in content_type:
            return None
        response = _object(body)
        if response is None or type(response.get("output")) is not list:
            return None
        reading = Reading(ended=True)
        _note_response(response, reading, texts=True)
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


class ResponsesMeter:
    """Implements `StreamMeter`. Gives whole events only, unchanged."""

    __slots__ = ("_events", "reading")
    content_type = EVENT_STREAM

    def __init__(self) -> None:
        self.reading = Reading()
        self._events = Splitter()

    def feed(self, chunk: bytes) -> bytes:
        events = self._events.feed(chunk)
        for event, whole in events:
            if whole:
                self._note(data_of(event))
            elif b"response.completed" in event[:200]:
                self.reading.flags.append("oversized_final")
        return events[0][0] if len(events) == 1 else b"".join(event for event, _ in events)

    def finish(self) -> bytes:
        rest = self._events.rest()
        if rest.strip():
            self._note(data_of(rest))
        if self._events.oversized:
            self.reading.flags.append("oversized_event")
        return rest

    def error_event(self, payload: bytes) -> bytes:
        return error_event(payload)

    def _note(self, data: bytes) -> None:
        if not data or data[:6] == b"[DONE]":
            return
        reading = self.reading
        event = _object(data)
        if event is None:
            if "malformed_event" not in reading.flags:
                reading.flags.append("malformed_event")
            reading.output_bytes += len(data)
            return
        kind = event.get("type")
        if type(kind) is not str:
            return
        if kind.endswith(".delta"):
            if type(event.get("delta")) is str:
                reading.add_text(event["delta"])
        elif kind in FINAL:
            if type(event.get("response")) is dict:
                _note_response(event["response"], reading, texts=False)
            reading.ended = True
        elif kind == "response.created" and type(event.get("response")) is dict:
            _identify(event["response"], reading)
        elif kind == "response.output_item.added":
            reading.output_bytes += 16  # the frame of an item is generated too
        elif kind == "error" or event.get("error"):
            reading.error = _code(event.get("error") or event)


def error_event(payload: bytes) -> bytes:
    """As the API puts an error into a stream, its fields beside the type; and whole, which is what makes SDKs raise it."""
    error = orjson.loads(payload)["error"]
    named = {name: error[name] for name in ("code", "message", "param")}
    return event_of(orjson.dumps({"type": "error", **named, "sequence_number": 0, "error": error}), b"error")


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None


def _identify(response: dict[str, Any], reading: Reading) -> None:
    for name in _SAID:
        value = response.get(name)
        if value is not None:
            reading.said[name] = value[:200] if type(value) is str else value


def _note_response(response: dict[str, Any], reading: Reading, *, texts: bool) -> None:
    _identify(response, reading)
    output = response.get("output")
    items = [item for item in output if type(item) is dict] if type(output) is list else []
    # What billing reads of an item is its kind and what it did: searches, containers
    reading.said["output"] = [{name: item[name] for name in _ITEM_FACTS if name in item} for item in items[:MAX_ITEMS]]
    if type(response.get("tools")) is list:
        reading.said["tools"] = response["tools"]
    if texts:
        for item in items:
            content = item.get("content")
            for part in content if type(content) is list else ():
                if type(part) is dict and type(part.get("text")) is str:
                    reading.add_text(part["text"])
            if type(item.get("arguments")) is str:
                reading.add_text(item["arguments"])
            reading.output_bytes += 16
    if response.get("usage") is not None:
        reading.raw_usage = orjson.dumps(response["usage"])
    if response.get("error"):
        reading.error = _code(response["error"])


def _code(error: Any) -> str:
    for name in ("code", "type"):
        if type(error) is dict and type(error.get(name)) is str:
            return str(error[name])[:64]
    return "provider_error"
