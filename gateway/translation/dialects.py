"""Dialects that answer an OpenAI client from another API: the provider's own meter reads for the bill, a translator writes for the client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from gateway.providers.dialect import EVENT_STREAM, STREAM_TYPE, Dialect, Reading, StreamMeter, Wanted
from gateway.providers.openai_responses import error_event
from gateway.sse import Splitter, data_of, event_of
from gateway.translation import from_anthropic, from_converse, from_gemini, responses
from gateway.translation.response_events import ChatStream, ResponseStream

DONE = b"data: [DONE]\n\n"


class Translator(Protocol):
    """Events of the provider in, chunks for the client out."""

    done: bool

    def take(self, event: Mapping[str, Any]) -> list[dict[str, Any]]: ...


class NotingMeter(StreamMeter, Protocol):
    def note(self, data: bytes) -> None:
        """Reads the data of one event."""
        ...


ChatStreams = Callable[..., ChatStream]


class Translated:
    """Implements `Dialect`: `native` reads and is asked, the client sees chat completions."""

    stream_type = STREAM_TYPE
    client_headers: frozenset[bytes] = frozenset()

    def __init__(
        self,
        native: Dialect,
        response: Callable[[Mapping[str, Any], int], dict[str, Any]],
        stream: ChatStreams,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._native = native
        self._response = response
        self._stream = stream
        self._clock = clock

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return self._native.path(endpoint, model, streamed=streamed)

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        return self._native.body(raw, fields, wanted, limit_field)

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        options = fields.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        native: Any = self._native.stream_meter(fields)
        return TranslatedMeter(native, self._begin(fields, int(self._clock()), show_usage=asked))

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        return self._native.read_whole(body, content_type)

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return orjson.dumps(self._completion(body, fields))

    def _begin(self, fields: Mapping[str, Any], created: int, *, show_usage: bool) -> ChatStream:
        return self._stream(created, show_usage=show_usage)

    def _completion(self, body: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
        return self._response(orjson.loads(body), int(self._clock()))


class TranslatedResponses(Translated):
    """Implements `Dialect`: the client sees responses, made of the chat completion that the same answer is."""

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        native: Any = self._native.stream_meter(fields)
        created = int(self._clock())
        chat = self._begin(fields, created, show_usage=True)
        return ResponsesMeter(native, ResponseStream(chat, fields, created))

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return orjson.dumps(responses.response(self._completion(body, fields), fields))


class _Unnamed(Translated):
    """Of a provider whose answers do not name their model."""

    by_tool = False
    """Its models answer by a schema through a tool of ours."""

    def _begin(self, fields: Mapping[str, Any], created: int, *, show_usage: bool) -> ChatStream:
        stream = from_converse.Stream(created, show_usage=show_usage, by_tool=self.by_tool and _schema_asked(fields))
        return stream.asked(str(fields.get("model") or ""), os.urandom(16))

    def _completion(self, body: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._completion(body, fields), "model": str(fields.get("model") or "")}


class _UnnamedResponses(_Unnamed, TranslatedResponses):
    """Implements `Dialect`."""


class _ByTool(_Unnamed):
    """Implements `Dialect`."""

    by_tool = True


class _ByToolResponses(_UnnamedResponses):
    """Implements `Dialect`."""

    by_tool = True


def _schema_asked(fields: Mapping[str, Any]) -> bool:
    """By a chat completion's body or a response's."""
    text = fields.get("text")
    wanted = fields.get("response_format", text.get("format") if isinstance(text, Mapping) else None)
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


class TranslatedMeter:
    """Implements `StreamMeter`. Each event is read twice: for the bill as it came, then for the client."""

    __slots__ = ("_ended", "_events", "_native", "_translator")
    content_type = EVENT_STREAM
    last_words = DONE

    def __init__(self, native: NotingMeter, translator: Translator) -> None:
        self._native = native
        self._translator = translator
        self._events = Splitter()
        self._ended = False

    @property
    def reading(self) -> Reading:
        return self._native.reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        self._native.reading = reading

    def feed(self, chunk: bytes) -> bytes:
        return b"".join([self._take(data_of(event)) for event, whole in self._events.feed(chunk) if whole])

    def finish(self) -> bytes:
        rest = self._events.rest()
        shown = self._take(data_of(rest)) if rest.strip() else b""
        if self._events.oversized:
            self.reading.flags.append("oversized_event")
        self._native.finish()
        end = getattr(self._translator, "end", None)
        if end is not None and not self._ended:
            shown += b"".join(self._event(chunk) for chunk in end())
            if self._translator.done:
                shown += self.last_words
        return shown

    def error_event(self, payload: bytes) -> bytes:
        return event_of(payload)

    def _take(self, data: bytes) -> bytes:
        if not data or self._ended:
            return b""
        self._native.note(data)
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return b""  # the native meter flagged it
        if not isinstance(event, dict):
            return b""
        made = self._translator.take(event)
        shown = b"".join([self._event(chunk) for chunk in made])
        if self._translator.done or any("error" in chunk for chunk in made):
            self._ended = True
        return shown + self.last_words if self._translator.done else shown

    def _event(self, chunk: dict[str, Any]) -> bytes:
        return event_of(orjson.dumps(chunk))


class ResponsesMeter(TranslatedMeter):
    """Implements `StreamMeter`: events have names, and the last one is the end."""

    __slots__ = ()
    last_words = b""

    def error_event(self, payload: bytes) -> bytes:
        return error_event(payload)

    def _event(self, chunk: dict[str, Any]) -> bytes:
        return event_of(orjson.dumps(chunk), chunk["type"].encode())


def anthropic(native: Dialect) -> Translated:
    return Translated(native, from_anthropic.response, from_anthropic.Stream)


def gemini(native: Dialect) -> Translated:
    return Translated(native, from_gemini.response, from_gemini.Stream)


def anthropic_responses(native: Dialect) -> TranslatedResponses:
    return TranslatedResponses(native, from_anthropic.response, from_anthropic.Stream)


def gemini_responses(native: Dialect) -> TranslatedResponses:
    return TranslatedResponses(native, from_gemini.response, from_gemini.Stream)


def converse(native: Dialect, *, by_tool: bool = False) -> Translated:
    kind = _ByTool if by_tool else _Unnamed
    return kind(native, from_converse.response, from_converse.Stream)


def converse_responses(native: Dialect, *, by_tool: bool = False) -> TranslatedResponses:
    kind = _ByToolResponses if by_tool else _UnnamedResponses
    return kind(native, from_converse.response, from_converse.Stream)
