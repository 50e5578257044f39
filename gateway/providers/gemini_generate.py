"""The Gemini dialect: generateContent and its kin. Every chunk of a stream repeats a cumulative `usageMetadata`.

A usage counts as final only when a candidate has said why it finished: before that it is a running total, and an answer that broke off is
dearer than its last total. Asked upstream as server-sent events always; a client that did not say `alt=sse` gets one JSON array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from billing.domain.extraction.gemini import filled_up
from billing.domain.limits import choices
from gateway.jsonbody import with_value
from gateway.providers.dialect import EVENT_STREAM, JSON, STREAM_TYPE, Reading, Wanted, stated
from gateway.sse import Splitter, data_of, event_of

_VERBS = {"embedContents": "batchEmbedContents"}
_CONFIGS = ("generationConfig", "generation_config")
_LIMITS = ("maxOutputTokens", "max_output_tokens")


class _Part(msgspec.Struct):
    text: str | None = None
    thought_signature: str | None = msgspec.field(default=None, name="thoughtSignature")
    call: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="functionCall")
    media: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="inlineData")
    code: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="executableCode")


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct):
    content: _Content | None = None
    index: int = 0
    finish: str | None = msgspec.field(default=None, name="finishReason")
    grounding: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="groundingMetadata")


class _Answer(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    usage: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="usageMetadata")
    model: str | None = msgspec.field(default=None, name="modelVersion")
    id: str | None = msgspec.field(default=None, name="responseId")
    feedback: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="promptFeedback")
    embedding: msgspec.Raw = msgspec.Raw(b"")
    embeddings: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_ANSWERS = msgspec.json.Decoder(_Answer)


class GeminiGenerate:
    """Implements `Dialect`."""

    stream_type = STREAM_TYPE
    client_headers: frozenset[bytes] = frozenset()

    def __init__(self, *, as_array: bool = False) -> None:
        """`as_array`: the client gets a stream as one JSON array."""
        self._as_array = as_array

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        verb = endpoint.rpartition(":")[2].partition("?")[0]
        verb = _VERBS.get(verb, verb)
        return f"/models/{path_name(model.removeprefix('models/'))}:{verb}" + ("?alt=sse" if streamed else "")

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.output_limit is not None:
            name = next((config for config in _CONFIGS if type(fields.get(config)) is dict), _CONFIGS[0])
            config = dict(fields.get(name) or {})
            for limit in [known for known in _LIMITS if config.get(known) is not None] or _LIMITS[:1]:
                config[limit] = wanted.output_limit
            raw = with_value(raw, name, config)
        return raw

    def stream_meter(self, fields: Mapping[str, Any]) -> GenerateMeter:
        return GenerateMeter(answers=choices("gemini", "generateContent", fields), as_array=self._as_array)

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        if "json" not in content_type:
            return None
        answer = _decode(body)
        if answer is None or not (
            answer.candidates is not None
            or any(stated(raw) for raw in (answer.feedback, answer.embedding, answer.embeddings))
        ):
            return None
        reading = Reading(ended=True, usage_key="usageMetadata")
        _note(answer, reading)
        usage = _plain(answer.usage)
        reading.raw_usage = orjson.dumps(usage) if usage else b""
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


def path_name(model: str) -> str:
    """A model's name as part of a path. Names come from clients: none of them may become another path, or a query."""
    plain = all(part.strip(".") for part in model.split("/"))
    return quote(model, safe="/@=,:" if plain else "")


class GenerateMeter:
    """Implements `StreamMeter`. Gives whole events, or whole elements of an array."""

    __slots__ = ("_answers", "_as_array", "_count", "_earlier", "_events", "_finished", "_last", "reading")

    def __init__(self, *, answers: int = 1, as_array: bool = False) -> None:
        """`answers` candidates were asked for: the stream is over when all of them finished."""
        self._answers = answers
        self.reading = Reading(usage_key="usageMetadata")
        self._events = Splitter()
        self._as_array = as_array
        self._count = 0
        self._finished: set[int] = set()
        self._last: dict[str, Any] = {}
        self._earlier: dict[str, Any] = {}

    @property
    def content_type(self) -> bytes:
        return JSON if self._as_array else EVENT_STREAM

    def feed(self, chunk: bytes) -> bytes:
        shown = [self._take(event, whole) for event, whole in self._events.feed(chunk)]
        return shown[0] if len(shown) == 1 else b"".join(shown)

    def finish(self) -> bytes:
        rest = self._events.rest()
        shown = self._take(rest, True) if rest.strip() else rest
        reading = self.reading
        if self._events.oversized:
            reading.flags.append("oversized_event")
        if self._last and not reading.ended:  # the body came to its end, and this is what the provider says it was
            reading.flags.append("no_finish_reason")
            self._publish()
        if self._as_array:
            shown = shown.rstrip() + (b"]" if self._count else b"[]")
        return shown

    def error_event(self, payload: bytes) -> bytes:
        if not self._as_array:
            return event_of(payload)
        return (b"," if self._count else b"[") + payload + b"]"

    def note(self, data: bytes) -> None:
        """Reads the data of one event."""
        reading = self.reading
        answer = _decode(data)
        if answer is None:
            if "malformed_event" not in reading.flags:
                reading.flags.append("malformed_event")
            reading.output_bytes += len(data)
            return
        _note(answer, reading)
        usage = _plain(answer.usage)
        if usage:
            self._earlier.update({key: value for key, value in self._last.items() if value is not None})
            self._last = usage
        self._finished.update(candidate.index for candidate in answer.candidates or () if candidate.finish is not None)
        blocked = not answer.candidates and b"blockReason" in stated(answer.feedback)
        reading.ended = reading.ended or blocked or len(self._finished) >= self._answers
        if reading.ended and self._last:
            self._publish()

    def _publish(self) -> None:
        self.reading.raw_usage = orjson.dumps(filled_up(self._last, self._earlier))

    def _take(self, event: bytes, whole: bool) -> bytes:
        data = data_of(event) if whole else b""
        if data:
            self.note(data)
        if not self._as_array:
            return event
        if not data:
            return b""
        self._count += 1
        return (b"[" if self._count == 1 else b",\r\n") + data


def _decode(data: bytes) -> _Answer | None:
    try:
        return _ANSWERS.decode(data)
    except (msgspec.ValidationError, UnicodeDecodeError):
        pass
    except msgspec.DecodeError:
        return None
    try:
        plain = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return _lenient(plain) if type(plain) is dict else None


def _lenient(plain: dict[str, Any]) -> _Answer:
    """Fields of unexpected types: all of a candidate counts as its text, and the usage is kept."""
    candidates = plain.get("candidates")
    answer = _Answer(candidates=[] if type(candidates) is list else None)
    for candidate in candidates if type(candidates) is list else ():
        try:
            answer.candidates.append(msgspec.convert(candidate, _Candidate))  # type: ignore[union-attr]
        except msgspec.ValidationError:
            finish = candidate.get("finishReason") if type(candidate) is dict else None
            answer.candidates.append(  # type: ignore[union-attr]
                _Candidate(
                    _Content([_Part(text=orjson.dumps(candidate).decode())]),
                    finish=finish if type(finish) is str else None,
                )
            )
    for name, key in (("model", "modelVersion"), ("id", "responseId")):
        if type(plain.get(key)) is str:
            setattr(answer, name, plain[key])
    for name, key in (
        ("usage", "usageMetadata"),
        ("feedback", "promptFeedback"),
        ("embedding", "embedding"),
        ("embeddings", "embeddings"),
        ("error", "error"),
    ):
        if plain.get(key) is not None:
            setattr(answer, name, msgspec.Raw(orjson.dumps(plain[key])))
    return answer


def _note(answer: _Answer, reading: Reading) -> None:
    said = reading.said
    for name, value in (("modelVersion", answer.model), ("responseId", answer.id)):
        if value and name not in said:
            said[name] = value[:200]
    for candidate in answer.candidates or ():
        grounding = stated(candidate.grounding)
        if grounding:  # the last one is the whole of it
            said["candidates"] = [{"groundingMetadata": _plain(candidate.grounding)}]
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            if part.text:
                reading.add_text(part.text)
            for raw in (part.call, part.code, part.media):
                size = len(stated(raw))
                if size:
                    reading.output_bytes += size
    error = stated(answer.error)
    if error:
        reading.error = error_status(error)


def _plain(raw: msgspec.Raw) -> dict[str, Any]:
    text = stated(raw)
    if not text:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {"promptTokenCount": value}


def error_status(raw: bytes) -> str:
    try:
        error = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "provider_error"
    status = error.get("status") if type(error) is dict else None
    return status[:64] if type(status) is str else "provider_error"
