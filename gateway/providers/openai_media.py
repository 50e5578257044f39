"""OpenAI's images and audio: JSON or forms in, JSON, events or plain bytes out. One meter for each manner of answering.

Their events can be as long as a picture, so the meter passes bytes on as they come and keeps one event at most, in pieces. What an answer does
not state (speech by characters, pictures by the piece, a transcript as text) is priced by what was asked: `Reading.by_request`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import multipart
from gateway.jsonbody import with_value
from gateway.providers.dialect import EVENT_STREAM, OPENAI_HEADERS, Reading, StreamMeter, Wanted, stated
from gateway.sse import data_of, event_of

MAX_EVENT_BYTES = 64 * 1024 * 1024
_EVENTS = b"text/event-stream"
_TEXT_TYPES = (b"text/plain", b"text/vtt", b"text/srt", b"application/x-subrip", b"application/srt")
_SOUND = {
    "mp3": b"audio/mpeg", "opus": b"audio/ogg", "aac": b"audio/aac", "flac": b"audio/flac", "wav": b"audio/wav", "pcm": b"audio/pcm",
}  # fmt: skip
FINAL = frozenset({"image_generation.completed", "image_edit.completed", "speech.audio.done", "transcript.text.done"})


class _Answer(msgspec.Struct):
    """The fields that the bill needs, of a whole answer or of an event. Pictures and sound are skipped, not decoded."""

    id: Any = None
    type: Any = None
    model: Any = None
    service_tier: Any = None
    size: Any = None
    quality: Any = None
    text: Any = None
    delta: Any = None
    audio: Any = None
    duration: Any = None
    data: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    svg_usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_ANSWERS = msgspec.json.Decoder(_Answer)
_SVG = msgspec.json.Decoder()


class OpenAIMedia:
    """Implements `Dialect`, and `PassesBytes` where `binary` says so. One object for each API: what is an answer differs."""

    client_headers = OPENAI_HEADERS
    stream_type = _EVENTS
    whole_when_streamed = True
    """Models that cannot stream answer whole, although they were asked to."""

    def __init__(self, endpoint: str, *, holds: str, binary: bool = False) -> None:
        """`holds`: the field that a whole answer has ("data", "text"); `binary`: a whole answer is sound."""
        self._path = endpoint.removeprefix("/v1")
        self._holds = holds
        self._binary = binary

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return self._path

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        if wanted.model is None:
            return raw
        if raw[:2] != b"--":
            return with_value(raw, "model", wanted.model)
        form = multipart.parse(raw, raw[2 : raw.index(b"\r\n")])
        named = next(part for part in form.parts if part.name == "model")
        return multipart.with_text(raw, named, wanted.model)

    def stream_meter(self, fields: Mapping[str, Any]) -> EventMeter:
        return EventMeter()

    def bytes_meter(self, fields: Mapping[str, Any], content_type: bytes) -> StreamMeter | None:
        """For an answer that is sound, which passes as it comes."""
        if not self._binary or not content_type.startswith((b"audio/", b"application/octet-stream", b"binary/")):
            return None
        return BytesMeter(content_type)

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        kind = content_type.encode().lower()
        if self._holds == "text" and kind.startswith(_TEXT_TYPES):
            reading = Reading(ended=True, by_request=True)
            reading.add_text(body.decode(errors="replace"))
            return reading
        if b"json" not in kind or self._binary:
            return None
        answer = _decode(body)
        if answer is None or getattr(answer, self._holds) is None:
            return None
        reading = Reading(ended=True)
        _note(answer, reading)
        reading.by_request = not reading.raw_usage
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body


class OpenAISpeech(OpenAIMedia):
    """OpenAI's own speech. Models that bill tokens state them in events only: so events are asked for, and given on as the sound in them."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, holds="text", binary=True)

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        raw = super().body(raw, fields, wanted, limit_field)
        return with_value(raw, "stream_format", "sse") if _bills_tokens(fields) else raw

    def bytes_meter(self, fields: Mapping[str, Any], content_type: bytes) -> StreamMeter | None:
        if _bills_tokens(fields) and _EVENTS in content_type:
            return SoundMeter(_SOUND.get(str(fields.get("response_format")), b"audio/mpeg"))
        return super().bytes_meter(fields, content_type)


def _bills_tokens(fields: Mapping[str, Any]) -> bool:
    """Of a client that wants plain sound. `tts-1` and its kin bill characters, and refuse to be asked for events."""
    named = str(fields.get("model")).rpartition("/")[2]
    return named.startswith("gpt-") and fields.get("stream_format") != "sse"


class BytesMeter:
    """Implements `StreamMeter` for sound: all bytes pass; the bill follows from the request."""

    def __init__(self, content_type: bytes) -> None:
        self.content_type = content_type
        self.reading = Reading(by_request=True)

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> bytes:
        self.reading.ended = True
        return b""

    def error_event(self, payload: bytes) -> bytes:
        """There is no room for words in sound: it just ends."""
        return b""


class EventMeter:
    """Implements `StreamMeter`. Bytes pass as they come; an event is read when it is whole."""

    def __init__(self) -> None:
        self.content_type = EVENT_STREAM
        self.reading = Reading()
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        rest = chunk
        while True:
            # A boundary may be half in what came before
            found = _boundary(self._tail, rest)
            if found is None:
                break
            self._keep(rest[:found])
            self._read()
            rest, self._tail = rest[found:], b""
        self._keep(rest)
        self._tail = (self._tail + rest)[-3:]
        return chunk

    def finish(self) -> bytes:
        self._read()
        return b""

    def error_event(self, payload: bytes) -> bytes:
        return event_of(payload, b"error")

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= MAX_EVENT_BYTES:
            self._pieces.append(piece)
        elif self._pieces:
            self._pieces.clear()
            self.reading.flags.append("oversized_event")

    def _read(self) -> None:
        event = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        data = data_of(event) if event.strip() else b""
        if not data or data[:6] == b"[DONE]":
            return
        reading, answer = self.reading, _decode(data)
        if answer is None:
            if "malformed_event" not in reading.flags:
                reading.flags.append("malformed_event")
            reading.output_bytes += len(data)
            return
        self._heard(answer)
        if answer.type in FINAL:
            _note(answer, reading)
            reading.ended = True
        elif type(answer.delta) is str:
            reading.add_text(answer.delta)
        elif stated(answer.error) or answer.type == "error":
            reading.error = _code(stated(answer.error))

    def _heard(self, answer: _Answer) -> None:
        """For whoever wants what an event carries."""


class SoundMeter(EventMeter):
    """Implements `StreamMeter`: speech events in, the sound in them out."""

    def __init__(self, content_type: bytes) -> None:
        super().__init__()
        self.content_type = content_type
        self._sound: list[bytes] = []

    def feed(self, chunk: bytes) -> bytes:
        super().feed(chunk)
        return self._taken()

    def finish(self) -> bytes:
        super().finish()
        return self._taken()

    def error_event(self, payload: bytes) -> bytes:
        return b""

    def _heard(self, answer: _Answer) -> None:
        if answer.type == "speech.audio.delta" and type(answer.audio) is str:
            try:
                self._sound.append(base64.b64decode(answer.audio, validate=True))
            except ValueError:
                self.reading.flags.append("malformed_event")

    def _taken(self) -> bytes:
        sound = b"".join(self._sound)
        self._sound.clear()
        return sound


def _boundary(before: bytes, rest: bytes) -> int | None:
    """Where in `rest` the blank line ends that ends an event; None when there is none yet."""
    joined = before + rest[:3] if before else b""
    for blank in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        if joined:
            at = joined.find(blank)
            if at >= 0 and at + len(blank) > len(before):
                return at + len(blank) - len(before)
    ends = [at + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := rest.find(blank)) >= 0]
    return min(ends, default=None)


def _decode(data: bytes) -> _Answer | None:
    try:
        return _ANSWERS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _note(answer: _Answer, reading: Reading) -> None:
    said = reading.said
    for name in ("id", "type", "model", "service_tier", "size", "quality"):
        value = getattr(answer, name)
        if type(value) is str:
            said[name] = value[:200]
    if answer.data is not None:
        said["data"] = [None] * len(answer.data)  # how many pictures
    if type(answer.duration) in (int, float, str):
        said["duration"] = answer.duration
    if stated(answer.svg_usage):
        said["svg_usage"] = _SVG.decode(answer.svg_usage)
    if type(answer.text) is str and not reading.output_bytes:
        reading.add_text(answer.text)
    reading.raw_usage = stated(answer.usage)
    if stated(answer.error):
        reading.error = _code(stated(answer.error))


def _code(raw: bytes) -> str:
    try:
        error = msgspec.json.decode(raw) if raw else None
    except msgspec.DecodeError:
        error = None
    for name in ("code", "type"):
        if type(error) is dict and type(error.get(name)) is str:
            return str(error[name])[:64]
    return "provider_error"
