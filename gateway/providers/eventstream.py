"""AWS event streams (application/vnd.amazon.eventstream): binary frames -> server-sent events, as a pure state machine. Bounded.

A frame is: total length, headers' length, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before it (docs.aws.amazon.com/
AmazonS3/latest/API/RESTSelectObjectAppendix.html, "Message format"; the same for every service). Bedrock's `chunk` events carry one JSON event of
the model's own API each, in base64; what else a frame says of itself is in its headers `:message-type` and `:event-type`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from zlib import crc32

import orjson

MAX_FRAME_BYTES = 24 * 1024 * 1024
_PRELUDE = 12
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; the others (6 bytes, 7 text) say their length."""


@dataclass(frozen=True, slots=True)
class Frame:
    headers: dict[str, str]
    """Only those whose value is text."""
    payload: bytes


class Frames:
    """Cuts a byte stream into frames, in any split. After a frame that cannot be right (`broken`) there are no more."""

    __slots__ = ("_pending", "broken")

    def __init__(self) -> None:
        self._pending = b""
        self.broken = False

    @property
    def halfway(self) -> bool:
        """A frame has begun and not ended."""
        return bool(self._pending)

    def feed(self, chunk: bytes) -> list[Frame]:
        if self.broken:
            return []
        data = self._pending + chunk if self._pending else chunk
        frames: list[Frame] = []
        start = 0
        while len(data) - start >= _PRELUDE:
            total = int.from_bytes(data[start : start + 4])
            headers = int.from_bytes(data[start + 4 : start + 8])
            sane = _PRELUDE + 4 + headers <= total <= MAX_FRAME_BYTES
            if not sane or crc32(data[start : start + 8]) != int.from_bytes(data[start + 8 : start + 12]):
                self.broken = True
                break
            if len(data) - start < total:
                break
            frame = _frame(data[start : start + total], headers)
            if frame is None:
                self.broken = True
                break
            frames.append(frame)
            start += total
        self._pending = b"" if self.broken else data[start:]
        return frames


def _frame(data: bytes, headers_size: int) -> Frame | None:
    if crc32(data[:-4]) != int.from_bytes(data[-4:]):
        return None
    ends = _PRELUDE + headers_size
    headers: dict[str, str] = {}
    at = _PRELUDE
    try:
        while at < ends:
            name_size = data[at]
            name, kind = data[at + 1 : at + 1 + name_size], data[at + 1 + name_size]
            at += 2 + name_size
            if kind in _FIXED:
                at += _FIXED[kind]
                continue
            size = int.from_bytes(data[at : at + 2])
            if kind == 7:
                headers[name.decode()] = data[at + 2 : at + 2 + size].decode()
            elif kind != 6:
                return None
            at += 2 + size
    except (IndexError, UnicodeDecodeError):
        return None
    return Frame(headers, data[ends:-4]) if at == ends else None


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame's bytes: what a server of this protocol sends."""
    head = b"".join(
        bytes((len(name),)) + name.encode() + b"\x07" + len(value.encode()).to_bytes(2) + value.encode()
        for name, value in headers.items()
    )
    lengths = (_PRELUDE + len(head) + len(payload) + 4).to_bytes(4) + len(head).to_bytes(4)
    body = lengths + crc32(lengths).to_bytes(4) + head + payload
    return body + crc32(body).to_bytes(4)


def model_event(frame: Frame) -> bytes | None:
    """The JSON that a `chunk` frame of Bedrock carries, on one line; None where it carries none."""
    try:
        carried = orjson.loads(frame.payload)
        event = base64.b64decode(carried["bytes"], validate=True)
        return orjson.dumps(orjson.loads(event)) if b"\n" in event or b"\r" in event else event
    except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, ValueError):
        return None


def fault(frame: Frame) -> tuple[str, str] | None:
    """(kind, message) of a frame that ends the stream with an error; None for any other."""
    kind = frame.headers.get(":message-type")
    if kind == "exception":
        name = frame.headers.get(":exception-type", "modelStreamErrorException")
        try:
            told = orjson.loads(frame.payload)
        except orjson.JSONDecodeError:
            told = None
        message = told.get("message") if isinstance(told, dict) else None
        return name[:100], str(message or name)[:2000]
    if kind == "error":
        name = frame.headers.get(":error-code", "error")
        return name[:100], frame.headers.get(":error-message", name)[:2000]
    return None
