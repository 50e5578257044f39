"""The OpenAI chat dialect: OpenAI itself, the simulator and everything that calls itself compatible.

A stream is `data:` events of chunks, the usage in the last one before `[DONE]` when `stream_options.include_usage` was asked for. We always
ask, and keep that chunk (the one without choices) from a client that did not. All other bytes pass as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from gateway.jsonbody import with_first, with_value
from gateway.providers.dialect import EVENT_STREAM, OPENAI_HEADERS, STREAM_TYPE, Reading, Wanted, stated
from gateway.providers.template import MOST_LESSONS, EventTemplate, learn
from gateway.sse import Splitter, data_of, event_of

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
_PATHS = {"/v1/chat/completions": "/chat/completions", "/v1/completions": "/completions"}


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Text(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Text | None = None
    message: _Text | None = None
    text: str | None = None
    """Of the older completions."""
    finish_reason: str | None = None


_ABSENT, _NULL = msgspec.Raw(b""), msgspec.Raw(b"null")


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    service_tier: str | None = None
    usage: msgspec.Raw = _ABSENT
    x_groq: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


class _Groq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw(b"")


class _PlainText(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: None = None
    reasoning: None = None
    reasoning_content: None = None
    tool_calls: None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainText
    text: None = None
    finish_reason: None = None


class _Plain(msgspec.Struct, gc=False):
    """A chunk that adds text to the one answer and says nothing else that we heed, which nearly every chunk does: what is `_Answer`'s beside that
    must be absent, or null."""

    choices: tuple[_PlainChoice]
    service_tier: str | None = None
    usage: None = None
    x_groq: None = None
    error: None = None


class _WholeChoice(msgspec.Struct, gc=False):
    message: _PlainText
    delta: None = None
    text: None = None
    finish_reason: str | None = None


class _Whole(msgspec.Struct, gc=False):
    """A whole answer that is one text, as nearly every one is, in the same sense."""

    choices: tuple[_WholeChoice]
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    usage: msgspec.Raw = _ABSENT
    x_groq: None = None
    error: None = None


_GROQ = msgspec.json.Decoder(_Groq)
_DECODER = msgspec.json.Decoder(_Answer)
_PLAIN = msgspec.json.Decoder(_Plain)
_WHOLE = msgspec.json.Decoder(_Whole)
MOST_MISSES = 8
"""Chunks of a stream that were not plain, after which none is read as if it were: both ways together take longer than the careful one alone."""


class OpenAIChat:
    """Implements `Dialect`."""

    stream_type = STREAM_TYPE
    client_headers = OPENAI_HEADERS

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return _PATHS[endpoint]

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.report_usage:
            options = fields.get("stream_options")
            if type(options) is not dict:
                edit = with_value if "stream_options" in fields else with_first
                raw = edit(raw, "stream_options", {"include_usage": True})
            elif options.get("include_usage") is not True:
                raw = with_value(raw, "stream_options", {**options, "include_usage": True})
        if wanted.output_limit is not None:
            named = [name for name in LIMIT_FIELDS if fields.get(name) is not None]
            for name in named or [limit_field]:
                edit = with_value if name in fields else with_first
                raw = edit(raw, name, wanted.output_limit)
        if wanted.model is not None:
            raw = with_value(raw, "model", wanted.model)
        return raw

    def stream_meter(self, fields: Mapping[str, Any]) -> ChatStreamMeter:
        options = fields.get("stream_options")
        asked = type(options) is dict and options.get("include_usage") is True
        return ChatStreamMeter(show_usage=asked)

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        if "json" not in content_type:
            return None
        plain = _read_plain(body)
        if plain is not None:
            return plain
        answer = _decode(body)
        if answer is None or answer.choices is None:
            return None
        reading = Reading(ended=True)
        _note(answer, reading)
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


class ChatStreamMeter:
    """Implements `StreamMeter`. Gives whole events only, so that an event of ours can follow at any time; holds back one at most."""

    __slots__ = (
        "_events",
        "_finished",
        "_lessons",
        "_misses",
        "_named",
        "_show_usage",
        "_template",
        "_tier",
        "reading",
    )
    content_type = EVENT_STREAM

    def __init__(self, *, show_usage: bool) -> None:
        self.reading = Reading()
        self._events = Splitter()
        self._show_usage = show_usage
        self._finished = False
        self._named, self._tier = False, None
        """Whether the reading has id and model, and the tier it has"""
        self._misses = self._lessons = 0
        self._template: EventTemplate | None = None

    def template(self) -> EventTemplate | None:
        return self._template if self._events.between_events else None

    def add_texts(self, texts: list[str]) -> None:
        if text := "".join(texts):
            self.reading.add_text(text)

    def feed(self, chunk: bytes) -> bytes:
        events = self._events.feed(chunk)
        if len(events) == 1:
            event, whole = events[0]
            return event if self._note(event, whole) or self._show_usage else b""
        return b"".join([event for event, whole in events if self._note(event, whole) or self._show_usage])

    def finish(self) -> bytes:
        rest = self._events.rest()
        shown = self._note(rest, whole=True) if rest.strip() else True
        if self._events.oversized:
            self.reading.flags.append("oversized_event")
        if self._finished:
            self.reading.ended = True  # some providers close without [DONE]
        return rest if shown or self._show_usage else b""

    def error_event(self, payload: bytes) -> bytes:
        return event_of(payload)

    def _note(self, event: bytes, whole: bool) -> bool:
        """Reads one event. Whether the client is to see it."""
        if self._template is not None and whole:
            text = self._template.text_of(event)
            if text is not None:
                if text:
                    self.reading.add_text(text)
                return True
        data = data_of(event) if whole else b""
        if not data:
            return True
        if self._named and self._misses < MOST_MISSES and self._is_plain(data):
            return True
        reading = self.reading
        if data[:6] == b"[DONE]":
            reading.ended = True
            return True
        answer = _decode(data)
        if answer is None:
            if "malformed_event" not in reading.flags:
                reading.flags.append("malformed_event")
            return True
        _note(answer, reading)
        self._named = reading.said.keys() >= {"id", "model"}
        tier = reading.said.get("service_tier")
        if tier != self._tier:
            self._tier, self._template = tier, None
        if not answer.choices:
            if not stated(answer.usage):
                return True
            reading.ended = reading.ended or self._finished  # usage after the last choice: nothing follows but [DONE]
            return False
        self._finished = self._finished or any(choice.finish_reason for choice in answer.choices)
        return True

    def _is_plain(self, data: bytes) -> bool:
        """Notes a chunk that only adds text. False for any other, of which nothing is noted."""
        try:
            plain = _PLAIN.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._misses += 1
            return False
        if plain.service_tier and plain.service_tier != self._tier:
            return False
        text = plain.choices[0].delta.content
        if text:
            self.reading.add_text(text)
            if self._lessons < MOST_LESSONS:
                self._lessons += 1
                self._template = learn(b"data: %b\n\n" % data, data, "content", text) or self._template
        return True


def _read_plain(body: bytes) -> Reading | None:
    """What `_note` would make of an answer that is one text; None for any other, and for what is no answer."""
    try:
        answer = _WHOLE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    said: dict[str, Any] = {}
    if answer.id:
        said["id"] = answer.id[:200]
    if answer.model:
        said["model"] = answer.model[:200]
    if answer.service_tier:
        said["service_tier"] = answer.service_tier[:40]
    reading = Reading(said, stated(answer.usage), ended=True)
    text = answer.choices[0].message.content
    if text:
        reading.add_text(text)
    return reading


def _decode(data: bytes) -> _Answer | None:
    try:
        return _DECODER.decode(data)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return _decode_leniently(data)
    except msgspec.DecodeError:
        return None


def _decode_leniently(data: bytes) -> _Answer | None:
    """An answer whose fields have types we do not expect: keep what is as expected, so that odd extras do not lose the usage."""
    try:
        plain = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(plain) is not dict:
        return None
    choices = plain.get("choices")
    answer = _Answer(choices=[] if type(choices) is list else None)
    for name in ("id", "model", "service_tier"):
        if type(plain.get(name)) is str:
            setattr(answer, name, plain[name])
    for name in ("usage", "x_groq", "error"):
        if plain.get(name) is not None:
            setattr(answer, name, msgspec.Raw(orjson.dumps(plain[name])))
    for choice in choices if type(choices) is list else ():
        try:
            answer.choices.append(msgspec.convert(choice, _Choice))  # type: ignore[union-attr]
        except msgspec.ValidationError:
            # Its text cannot be told from the rest: all of it counts, so that the bound stays one.
            answer.choices.append(_Choice(delta=_Text(content=orjson.dumps(choice).decode())))  # type: ignore[union-attr]
    return answer


def _note(answer: _Answer, reading: Reading) -> None:
    """Adds one chunk (or a whole answer) to the reading. The last usage wins: where it comes in every chunk it is cumulative."""
    said = reading.said
    for name, value in (("id", answer.id), ("model", answer.model)):
        if value and name not in said:
            said[name] = value[:200]
    if answer.service_tier:
        said["service_tier"] = answer.service_tier[:40]
    for choice in answer.choices or ():
        text = choice.delta or choice.message
        if text is not None:
            _add(text, reading)
        if choice.text:
            reading.add_text(choice.text)
    usage = stated(answer.usage) or _groq_usage(answer)
    if usage:
        reading.raw_usage = usage
    error = stated(answer.error)
    if error:
        reading.error = _error_code(error)


def _groq_usage(answer: _Answer) -> bytes:
    own = stated(answer.x_groq)
    if not own:
        return b""
    try:
        return stated(_GROQ.decode(own).usage)
    except msgspec.DecodeError:
        return b""


def _add(text: _Text, reading: Reading) -> None:
    for part in (text.content, text.refusal, text.reasoning, text.reasoning_content):
        if part:
            reading.add_text(part)
    if text.tool_calls or text.function_call:
        for function in (*(call.function for call in text.tool_calls or ()), text.function_call):
            if function is not None:
                reading.add_text((function.name or "") + (function.arguments or ""))
                reading.output_bytes += 8  # the frame of a tool call is generated too


def _error_code(raw: bytes) -> str:
    try:
        error = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "provider_error"
    if type(error) is dict:
        for name in ("code", "type"):
            if type(error.get(name)) is str:
                return str(error[name])[:64]
    return "provider_error"
