"""AWS event streams: frames in any split, damaged ones stop the stream, and Bedrock's chunks become the model's own events."""

from __future__ import annotations

import base64
import json
import random

import pytest

from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.clouds import FramedMeter
from gateway.providers.eventstream import Frames, encode, fault

# A frame with neither headers nor payload, as botocore's tests and the protocol's documents have it
EMPTY = b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2H\xeb}\x98\xc8\xff"
EVENTS: list[dict[str, object]] = [
    {"type": "message_start", "message": {"id": "msg_bdrk_1", "type": "message", "model": "claude-sonnet-4-5-20250929", "content": [],
                                          "usage": {"input_tokens": 86, "cache_read_input_tokens": 1920, "output_tokens": 2}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 300}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 86, "outputTokenCount": 300}},
]  # fmt: skip


def chunk(event: object) -> bytes:
    carried = base64.b64encode(json.dumps(event).encode()).decode()
    return encode(
        {":message-type": "event", ":event-type": "chunk"}, json.dumps({"bytes": carried, "p": "abcd"}).encode()
    )


STREAM = b"".join(map(chunk, EVENTS))


def test_the_documented_empty_frame_is_read_and_written() -> None:
    frames = Frames()
    [frame] = frames.feed(EMPTY)
    assert (frame.headers, frame.payload, frames.broken) == ({}, b"", False)
    assert encode({}, b"") == EMPTY


def test_headers_of_every_type_are_passed_over() -> None:
    head = b"\x01a\x00\x01b\x04\x00\x00\x00\x07\x01c\x06\x00\x02xy\x01d\x07\x00\x02ok\x01e\x09" + b"\0" * 16
    plain = encode({}, head)  # right lengths but for the headers': made again below
    from zlib import crc32

    lengths = len(plain).to_bytes(4) + len(head).to_bytes(4)
    body = lengths + crc32(lengths).to_bytes(4) + head
    [frame] = Frames().feed(body + crc32(body).to_bytes(4))
    assert frame.headers == {"d": "ok"}


def test_a_stream_in_any_split_is_the_same_events_and_the_same_bill() -> None:
    def run(pieces: list[bytes]) -> tuple[bytes, bytes, bool, list[str]]:
        meter = FramedMeter(AnthropicMessages().stream_meter({}))
        shown = b"".join(meter.feed(piece) for piece in pieces) + meter.finish()
        return shown, meter.reading.raw_usage, meter.reading.ended, meter.reading.flags

    whole = run([STREAM])
    assert whole[0].startswith(b'event: message_start\ndata: {"type": "message_start"')
    assert json.loads(whole[1])["output_tokens"] == 300
    assert whole[2:] == (True, [])
    assert run([STREAM[at : at + 1] for at in range(len(STREAM))]) == whole
    for cut in range(0, len(STREAM), 17):
        assert run([STREAM[:cut], STREAM[cut:]]) == whole


def test_an_exception_in_mid_stream_is_an_error_event() -> None:
    meter = FramedMeter(AnthropicMessages().stream_meter({}))
    meter.feed(chunk(EVENTS[0]))
    frame = encode(
        {":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message": "Too many tokens"}'
    )
    shown = meter.feed(frame)
    assert shown.startswith(b"event: error\n")
    assert b"Too many tokens" in shown
    assert (meter.reading.error, meter.reading.ended) == ("throttlingException", False)


def test_an_error_frame_says_its_code() -> None:
    [frame] = Frames().feed(encode({":message-type": "error", ":error-code": "Internal", ":error-message": "No"}, b""))
    assert fault(frame) == ("Internal", "No")


@pytest.mark.parametrize("at", [0, 5, 9, 30, -1])
def test_a_damaged_frame_ends_the_reading_and_says_so(at: int) -> None:
    data = bytearray(chunk(EVENTS[2]))
    data[at] ^= 0xFF
    meter = FramedMeter(AnthropicMessages().stream_meter({}))
    meter.feed(bytes(data) + STREAM)
    meter.finish()
    assert not meter.reading.ended
    assert "malformed_frame" in meter.reading.flags


def test_noise_never_raises_and_never_grows_without_bound() -> None:
    noise = random.Random(7)
    for _ in range(300):
        frames = Frames()
        for _ in range(5):
            frames.feed(noise.randbytes(noise.randrange(60)))
        frames.feed(b"\xff" * 4_000)
        assert frames.broken


def test_a_frame_that_carries_no_json_is_passed_over() -> None:
    meter = FramedMeter(AnthropicMessages().stream_meter({}))
    for payload in (b"", b"{}", b'{"bytes": 7}', b'{"bytes": "%%"}', b'{"bytes": "e30="}', b'{"bytes": "W10="}'):
        meter.feed(encode({":message-type": "event", ":event-type": "chunk"}, payload))
    assert not meter.reading.ended
