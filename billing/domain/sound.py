"""How long sound is: read from the file itself where its container tells, bounded by its size where it does not. Pure.

`length_ms` believes a file's own frames and headers, so it is for counting what was billed and never for a bound: a header can lie, the size
cannot. `most_ms` is the bound.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from billing.domain import tokens
from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.rates import Rates

SLOWEST_BYTES_PER_S = 500
"""No speech codec in use is under 4 kbit/s."""
AUDIO_TOKENS_PER_S = 10
"""What OpenAI's transcription models bill: a token for every 100 ms."""
MOST_AUDIO_TOKENS_PER_S = 25
SHORTEST_BILLED_MS = 10_000
"""Groq bills at least so much."""

_MP3_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)
MAX_FRAMES = 400_000


FIELDS = frozenset(
    {
        "model", "input", "voice", "instructions", "response_format", "speed", "stream_format", "stream", "user", "metadata", "language",
        "languages[]", "keywords[]", "prompt", "temperature", "timestamp_granularities[]", "include[]", "chunking_strategy", "sample_rate",
        "known_speaker_names[]", "safety_identifier", "file_bytes", "audio", "diarize", "context_bias[]", "lang_code", "seed", "volume",
        "languages", "keywords", "include", "timestamp_granularities", "known_speaker_names",
    }
)  # fmt: skip
"""What a request for speech or a transcript may say without changing its price."""


def hears(endpoint: str) -> bool:
    return "/audio/" in endpoint


def odd_field(request: Mapping[str, Any]) -> str:
    """A field whose price nobody knows; empty when there is none."""
    odd = (name for name in request if name not in FIELDS and not name.startswith("chunking_strategy["))
    return next(odd, "")[:40]


def most_ms(size: int) -> int:
    """No sound in a file of so many bytes is longer."""
    return max((size // SLOWEST_BYTES_PER_S + 1) * 1000, SHORTEST_BILLED_MS)


def length_ms(file: bytes | memoryview) -> int | None:
    """The length of a WAV, MP3, FLAC, Ogg, MP4 (m4a) or WebM file in milliseconds, rounded up; None when it does not tell."""
    head = bytes(file[:16])
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(file)
    if head[:4] == b"fLaC":
        return _flac(bytes(file[:64]))
    if head[:4] == b"OggS":
        return _ogg(file)
    if head[4:8] == b"ftyp":
        return _mp4(file)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _webm(bytes(file[:65_536]))
    return _mp3(file)


def counted(endpoint: str, request: Mapping[str, Any], rates: Rates | None, output_bytes: int) -> Usage | None:
    """What a transcription consumed whose answer does not say: by the length of the file that was sent. None when nobody can tell."""
    file = request.get("audio")
    if "/audio/t" not in endpoint or rates is None or not isinstance(file, memoryview | bytes):
        return None
    length = length_ms(file)
    compiled = rates.compiled()
    if length is None or compiled is None:
        return None
    if "audio_milliseconds" in compiled.numerators:
        buckets = {"audio_milliseconds": length}
    else:
        buckets = {
            "input_audio": -(-length * AUDIO_TOKENS_PER_S // 1000),
            "input_uncached": tokens.bound(str(request.get("prompt") or ""), "bytes") - 1,
            "output_text": output_bytes,
        }
    return Usage(buckets={name: n for name, n in buckets.items() if n > 0}, context=UsageContext(), counted=True)


def _ms(units: int, per_s: int) -> int | None:
    return -(-units * 1000 // per_s) if per_s > 0 else None


def _wav(file: bytes | memoryview) -> int | None:
    at, rate = 12, 0
    while at + 8 <= len(file):
        name, size = bytes(file[at : at + 4]), int.from_bytes(file[at + 4 : at + 8], "little")
        if name == b"fmt ":
            rate = int.from_bytes(file[at + 16 : at + 20], "little")
        elif name == b"data":
            return _ms(min(size, len(file) - at - 8), rate)
        at += 8 + size + size % 2
    return None


def _flac(head: bytes) -> int | None:
    packed = int.from_bytes(head[18:26], "big")  # 20 bits of rate, 3 of channels, 5 of depth, 36 of samples
    samples = packed & ((1 << 36) - 1)
    return _ms(samples, packed >> 44) if samples else None


def _ogg(file: bytes | memoryview) -> int | None:
    tail = bytes(file[-65_536:])
    last = tail.rfind(b"OggS")
    head = bytes(file[:256])
    if last < 0 or last + 14 > len(tail):
        return None
    samples = int.from_bytes(tail[last + 6 : last + 14], "little", signed=True)
    if b"OpusHead" in head:
        return _ms(samples, 48_000) if samples > 0 else None
    at = head.find(b"\x01vorbis")
    return _ms(samples, int.from_bytes(head[at + 12 : at + 16], "little")) if at >= 0 and samples > 0 else None


def _mp4(file: bytes | memoryview) -> int | None:
    """The movie header's duration; `moov` may stand before or after the samples."""
    moov = _box(file, 0, len(file), b"moov")
    header = _box(file, *moov, b"mvhd") if moov else None
    if header is None:
        return None
    body = bytes(file[header[0] : header[0] + 32])
    long = body[:1] == b"\x01"
    scale, duration = (body[20:24], body[24:32]) if long else (body[12:16], body[16:20])
    return _ms(int.from_bytes(duration, "big"), int.from_bytes(scale, "big"))


def _box(file: bytes | memoryview, at: int, end: int, wanted: bytes) -> tuple[int, int] | None:
    for _ in range(1_000):
        if at + 8 > end:
            return None
        size, name, head = int.from_bytes(file[at : at + 4], "big"), bytes(file[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(file[at + 8 : at + 16], "big"), 16
        if size == 0:
            size = end - at
        if size < head:
            return None
        if name == wanted:
            return at + head, min(at + size, end)
        at += size
    return None


def _webm(head: bytes) -> int | None:
    """`Duration` of the segment's Info, in units of `TimestampScale` nanoseconds; browsers' live recordings have none."""
    at = head.find(b"\x44\x89")
    if at < 0 or at + 11 > len(head):
        return None
    if head[at + 2] == 0x88:
        units = struct.unpack(">d", head[at + 3 : at + 11])[0]
    elif head[at + 2] == 0x84:
        units = struct.unpack(">f", head[at + 3 : at + 7])[0]
    else:
        return None
    scale_at = head.find(b"\x2a\xd7\xb1\x83")
    scale = int.from_bytes(head[scale_at + 4 : scale_at + 7], "big") if scale_at >= 0 else 1_000_000
    length = units * scale / 1e6
    return int(length) + 1 if 0 < length < 1e9 else None


def _mp3(file: bytes | memoryview) -> int | None:
    """The frames themselves, one by one: what a decoder plays."""
    at = 0
    if bytes(file[:3]) == b"ID3" and len(file) > 10:
        size = 0
        for byte in bytes(file[6:10]):
            size = size << 7 | byte & 0x7F
        at = 10 + size
    first = _MP3_SYNC.search(bytes(file[at : at + 65_536]))
    if first is None:
        return None
    at += first.start()
    nanos, frames = 0, 0
    while at + 4 <= len(file) and frames < MAX_FRAMES:
        second, third = file[at + 1], file[at + 2]
        version, layer = second >> 3 & 3, second >> 1 & 3
        if file[at] != 0xFF or second & 0xE0 != 0xE0 or version == 1 or layer != 1 or third >> 2 & 3 == 3:
            break  # a tag at the end, or no frame
        kbps = _MP3_KBPS[1 if version == 3 else 2][third >> 4] if third >> 4 < 15 else 0
        if not kbps:
            break
        rate = _MP3_HZ[version][third >> 2 & 3]
        samples = 1152 if version == 3 else 576
        nanos += samples * 1_000_000_000 // rate
        at += samples // 8 * kbps * 1000 // rate + (third >> 1 & 1)
        frames += 1
    return -(-nanos // 1_000_000) if frames > 1 else None
