"""The meters of images and audio, on bytes alone: however a stream is cut, the client gets all of it and the bill reads the same."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway import endpoints
from gateway.providers.dialect import Reading, meter_of
from gateway.providers.openai_media import EventMeter, OpenAIMedia, OpenAISpeech, SoundMeter

USAGE = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
EVENTS: list[dict[str, Any]] = [
    {"type": "image_generation.partial_image", "b64_json": "QUJD", "partial_image_index": 0},
    {"type": "image_generation.completed", "b64_json": "QUJDREVG" * 3, "quality": "low", "usage": USAGE},
]
SPOKEN: list[dict[str, Any]] = [
    {"type": "speech.audio.delta", "audio": base64.b64encode(b"hello ").decode()},
    {"type": "speech.audio.delta", "audio": base64.b64encode(b"there").decode()},
    {"type": "speech.audio.done", "usage": USAGE},
]


def stream(events: list[dict[str, Any]], newline: bytes = b"\n") -> bytes:
    lines = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events]
    return b"".join(lines).replace(b"\n", newline)


def read(meter: EventMeter, *chunks: bytes) -> tuple[bytes, Reading]:
    passed = b"".join(meter.feed(chunk) for chunk in chunks) + meter.finish()
    return passed, meter.reading


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_stream_of_pictures_reads_the_same_however_it_is_cut(newline: bytes) -> None:
    whole = stream(EVENTS, newline)
    cuts = [[whole], [whole[n : n + 1] for n in range(len(whole))]]
    cuts += [[whole[:n], whole[n:]] for n in range(1, len(whole))]
    for chunks in cuts:
        passed, reading = read(EventMeter(), *chunks)
        assert passed == whole
        assert (reading.ended, json.loads(reading.raw_usage), reading.said["quality"]) == (True, USAGE, "low")


def test_sound_in_events_comes_out_as_sound_however_it_is_cut() -> None:
    whole = stream(SPOKEN)
    for n in range(1, len(whole)):
        passed, reading = read(SoundMeter(b"audio/mpeg"), whole[:n], whole[n:])
        assert passed == b"hello there"
        assert (reading.ended, json.loads(reading.raw_usage)) == (True, USAGE)


@pytest.mark.parametrize("cut", [10, 60, 150])
def test_a_stream_that_breaks_off_has_not_ended(cut: int) -> None:
    _, reading = read(EventMeter(), stream(EVENTS)[:cut])
    assert not reading.ended
    assert reading.raw_usage == b""


def test_bytes_that_are_no_events_change_nothing_but_a_flag() -> None:
    passed, reading = read(
        EventMeter(), b"data: {not json}\n\ndata: [1]\n\n: comment\n\ndata: [DONE]\n\n" + stream(EVENTS)
    )
    assert passed.endswith(stream(EVENTS))
    assert reading.ended
    assert reading.flags == ["malformed_event"]


def test_who_reads_along_depends_on_what_is_answered() -> None:
    speech, pictures = OpenAISpeech(endpoints.SPEECH), OpenAIMedia(endpoints.IMAGES, holds="data")
    by_tokens, by_characters = {"model": "gpt-4o-mini-tts", "response_format": "wav"}, {"model": "tts-1"}
    sound = meter_of(speech, by_tokens, b"text/event-stream", streamed=False)
    assert isinstance(sound, SoundMeter)
    assert sound.content_type == b"audio/wav"
    assert meter_of(speech, by_characters, b"audio/mpeg", streamed=False) is not None
    assert meter_of(speech, by_characters, b"text/html", streamed=False) is None
    assert meter_of(pictures, {}, b"application/json", streamed=True) is None
    assert isinstance(meter_of(pictures, {}, b"text/event-stream", streamed=True), EventMeter)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data":"x"}', b'{"error":{"message":"x"}}', b"\xff"])
def test_an_answer_that_is_none_is_not_taken_for_one(body: bytes) -> None:
    assert OpenAIMedia(endpoints.IMAGES, holds="data").read_whole(body, "application/json") is None
    assert OpenAIMedia(endpoints.TRANSCRIPTIONS, holds="text").read_whole(body, "application/json") is None
    assert OpenAISpeech(endpoints.SPEECH).read_whole(body, "application/json") is None
