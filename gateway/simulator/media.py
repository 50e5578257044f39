"""The OpenAI dialect: images and audio. Small true files (a PNG, a WAV), usage as OpenAI states it, every unit on the invoice.

Models: `sim-image` and GPT-Image by tokens, `sim-tts` by characters, `gpt-4o-mini-tts` by tokens, `sim-hear` and `whisper-1` by the length of the
file, `gpt-4o-mini-transcribe` by tokens. Scripts apply as far as they make sense without words: an error status, a slow first byte.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import struct
import wave
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec

from gateway.simulator import tokens
from gateway.simulator.catalogue import Model
from gateway.simulator.dialect import Reading, Refused, body_object, known_model, whole_number
from gateway.simulator.http import Exchange, Request
from gateway.simulator.invoice import Book
from gateway.simulator.scripts import Script

IMAGE_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
INPUT_IMAGE_TOKENS = 323
AUDIO_TOKENS_PER_S = 10
WORDS = "All the world is a stage, and I have heard it."


@dataclass(slots=True)
class Answer:
    """What one request is answered with, and what it costs: input units, output units."""

    model: Model
    script: Script
    spent: tuple[int, int]
    body: bytes
    content_type: str = "application/json"
    events: Sequence[Mapping[str, Any]] | None = None


async def answer(path: str, request: Request, reading: Reading, exchange: Exchange, book: Book) -> bool:
    """Answers one of the paths of images and audio; False where the path is none of them."""
    ask = _PATHS.get(path)
    if ask is None:
        return False
    content_type = request.header("content-type")
    given: Mapping[str, Any] = (
        form_of(content_type, request.body) if content_type.startswith("multipart/") else body_object(request.body)
    )
    made = ask(given, reading)
    script = made.script
    bill = book.open(
        attempt=reading.attempt, model=made.model, script=script.name, input_tokens=made.spent[0], cached_tokens=0
    )
    if script.status >= 400:
        bill.record(0, final=True, billed=script.bills_errors)
        raise Refused(script.status, "The server had an error while processing your request.")
    bill.record(0, final=script.first_ms == 0 and not made.spent[1])
    await exchange.pause(script.first_ms / 1000)
    bill.record(made.spent[1], final=True)
    headers = ((b"x-request-id", b"req_" + bill.invoice.encode()),)
    if made.events is None:
        exchange.respond(200, made.body, made.content_type, headers)
        return True
    exchange.start(200, "text/event-stream", headers)
    for event in made.events:
        exchange.write(b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event)))
        await exchange.flushed()
    exchange.finish()
    return True


def _images(given: Mapping[str, Any], reading: Reading) -> Answer:
    model, model_script = known_model(given.get("model"), medium="image")
    script, _ = reading.script(str(given.get("prompt") or ""), given.get("metadata"), model_script)
    number = whole_number(given, "n", low=1, high=10) or 1
    partial = whole_number(given, "partial_images", low=0, high=3) or 0
    quality = given.get("quality") if given.get("quality") in IMAGE_TOKENS else "high"
    files = [*_list(given.get("image")), *_list(given.get("image[]"))]
    text, image = tokens.count(len(str(given.get("prompt") or "").encode())), INPUT_IMAGE_TOKENS * len(files)
    output = IMAGE_TOKENS[str(quality)] * number + 100 * partial
    usage = {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": output},
        "total_tokens": text + image + output,
    }
    about = {
        "background": "opaque",
        "output_format": "png",
        "quality": quality,
        "size": given.get("size") or "1024x1024",
    }
    pictures = [base64.b64encode(png(n)).decode() for n in range(number)]
    body = {"created": 1_767_225_600, **about, "data": [{"b64_json": one} for one in pictures], "usage": usage}
    # A picture that is handed in costs what it does here: the invoice has one input rate
    spent = (text + image * 2, output)
    made = Answer(model, script, spent, msgspec.json.encode(body))
    if given.get("stream") in (True, "true"):
        verb = "image_edit" if files else "image_generation"
        made.events = [
            *(
                {
                    "type": f"{verb}.partial_image",
                    "partial_image_index": n,
                    "b64_json": pictures[0],
                    "created_at": 1,
                    **about,
                }
                for n in range(partial)
            ),
            {"type": f"{verb}.completed", "b64_json": pictures[0], "created_at": 1, **about, "usage": usage},
        ]
    return made


def _speech(given: Mapping[str, Any], reading: Reading) -> Answer:
    model, model_script = known_model(given.get("model"), medium="speech")
    text = given.get("input")
    if not isinstance(text, str) or not text:
        raise Refused(400, "'input' must be a string that is not empty.", param="input")
    script, _ = reading.script(text, None, model_script)
    by_tokens = model.output_rate > 0
    sound = wav(len(text) * 60)
    spent = (tokens.count(len(text.encode())), len(text)) if by_tokens else (len(text), 0)
    made = Answer(model, script, spent, sound, "audio/wav")
    if given.get("stream_format") == "sse":
        if not by_tokens:
            raise Refused(400, f"stream_format sse is not supported for {model.name}.", param="stream_format")
        usage = {"input_tokens": spent[0], "output_tokens": spent[1], "total_tokens": sum(spent)}
        pieces = [sound[at : at + 4096] for at in range(0, len(sound), 4096)]
        made.events = [
            *({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in pieces),
            {"type": "speech.audio.done", "usage": usage},
        ]
    return made


def _hearing(given: Mapping[str, Any], reading: Reading) -> Answer:
    model, model_script = known_model(given.get("model"), medium="hearing")
    script, _ = reading.script(str(given.get("prompt") or ""), None, model_script)
    file = given.get("file")
    if not isinstance(file, bytes):
        raise Refused(400, "'file' must be a file.", param="file")
    length_ms = _length_ms(file)
    by_tokens = model.output_rate > 0
    heard, said = -(-length_ms * AUDIO_TOKENS_PER_S // 1000), tokens.count(len(WORDS))
    details = {"text_tokens": 0, "audio_tokens": heard}
    usage: dict[str, Any] = (
        {
            "type": "tokens",
            "input_tokens": heard,
            "input_token_details": details,
            "output_tokens": said,
            "total_tokens": heard + said,
        }
        if by_tokens
        else {"type": "duration", "seconds": length_ms / 1000}
    )
    form = given.get("response_format") or "json"
    spent = (heard, said) if by_tokens else (length_ms, 0)
    if form in ("text", "srt", "vtt"):
        span = "00:00:00,000 --> 00:00:02,000"
        lines = {"text": WORDS, "srt": f"1\n{span}\n{WORDS}\n", "vtt": f"WEBVTT\n\n{span.replace(',', '.')}\n{WORDS}\n"}
        return Answer(model, script, spent, (lines[form] + "\n").encode(), "text/plain; charset=utf-8")
    body: dict[str, Any] = {"text": WORDS, "usage": usage}
    if form == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": length_ms / 1000, "segments": [], "words": []}
    made = Answer(model, script, spent, msgspec.json.encode(body))
    if given.get("stream") == "true" and by_tokens:
        made.events = [
            *({"type": "transcript.text.delta", "delta": f"{word} "} for word in WORDS.split()),
            {"type": "transcript.text.done", "text": WORDS, "usage": usage},
        ]
    return made


_PATHS = {
    "/v1/images/generations": _images,
    "/v1/images/edits": _images,
    "/v1/images/variations": _images,
    "/v1/audio/speech": _speech,
    "/v1/audio/transcriptions": _hearing,
    "/v1/audio/translations": _hearing,
}


def form_of(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields and files of a form: cut at the boundary, each head read by the standard library (another reader than the gateway's)."""
    named = email.parser.HeaderParser(policy=email.policy.HTTP).parsestr(f"content-type: {content_type}\r\n\r\n")
    boundary = named.get_param("boundary")
    fields: dict[str, Any] = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + str(boundary).encode())[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        part = email.parser.BytesHeaderParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n")
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise Refused(400, "We could not parse the form of your request.")
        value: Any = content if part.get_filename() is not None else content.decode()
        if name in ("n", "partial_images"):
            value = int(value)
        fields[name] = [*_list(fields[name]), value] if name in fields else value
    return fields


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _length_ms(file: bytes) -> int:
    try:
        with wave.open(BytesIO(file)) as sound:
            return int(-(-sound.getnframes() * 1000 // sound.getframerate()))
    except (wave.Error, EOFError):
        return max(1000, len(file) // 16)  # as if at 128 kbit/s


def wav(length_ms: int) -> bytes:
    """Silence: 8 kHz, 16 bit, mono."""
    data = bytes(16 * length_ms)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        8000,
        16000,
        2,
        16,
        b"data",
        len(data),
    )
    return head + data


def png(shade: int) -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade % 256]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
