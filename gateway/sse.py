"""Server-sent events as a pure state machine: bytes in any split -> whole events, byte for byte. Bounded.

Follows WHATWG HTML "Server-sent events": lines end with LF, CR or CRLF; a blank line ends an event; lines that start with a colon are comments.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 1024 * 1024

_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r){2}")
_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Splitter:
    """Cuts a byte stream into events. Concatenating everything `feed` and `rest` gave is the stream, unchanged.

    An event longer than `MAX_EVENT_BYTES` is given in pieces, none of which `data_of` finds data in (`oversized` says that it happened).
    """

    __slots__ = ("_pending", "_scanned", "_skipping", "oversized")

    def __init__(self) -> None:
        self._pending = b""
        self._scanned = 0
        self._skipping = False
        self.oversized = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """More bytes -> the events (with their blank line) that they complete, and whether each is whole."""
        # `find`, because `in` asks first whether bytes are a number, and makes an exception of it
        if not self._pending and not self._skipping and chunk.find(b"\r") < 0 and chunk[-2:] == b"\n\n":
            if chunk.find(b"\n", 0, -2) < 0 or chunk.find(b"\n\n") == len(chunk) - 2:
                return [(chunk, True)]
            if chunk.find(b"\n\n\n") < 0:
                return [(event + b"\n\n", True) for event in chunk[:-2].split(b"\n\n")]
        return self._feed_slowly(chunk)

    def _feed_slowly(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        buffer = self._pending + chunk if self._pending else chunk
        events: list[tuple[bytes, bool]] = []
        start, scan = 0, max(0, self._scanned - 3)
        while (found := _BOUNDARY.search(buffer, scan)) is not None:
            end = found.end()
            if end == len(buffer) and buffer[end - 1] == 0x0D and b"\n" in found.group():
                break  # "\r\n\r": its last "\n" is still to come
            events.append((buffer[start:end], not self._skipping))
            self._skipping = False
            start = scan = end
        self._pending = buffer[start:]
        self._scanned = len(self._pending)
        if len(self._pending) > MAX_EVENT_BYTES or (self._skipping and len(self._pending) > 3):
            self._skipping = self.oversized = True
            keep = len(self._pending) - 3  # a boundary may be half here
            events.append((self._pending[:keep], False))
            self._pending = self._pending[keep:]
            self._scanned = 0
        return events

    @property
    def between_events(self) -> bool:
        """Nothing of an event that has begun is held, or was given in pieces."""
        return not self._pending and not self._skipping

    def rest(self) -> bytes:
        """At the end of the stream: the bytes of an event that no blank line ended."""
        rest, self._pending = self._pending, b""
        return rest


def data_of(event: bytes) -> bytes:
    """The data of one whole event: its data lines joined by LF, without comments and other fields. b"" when it has none."""
    if event[:6] == b"data: " and event[-2:] == b"\n\n":  # nearly every event of nearly every provider
        data = event[6:-2]
        if data.find(b"\n") < 0 and data.find(b"\r") < 0:
            return data
    lines = []
    for line in _LINE.split(event.removeprefix(_BOM)):
        name, colon, value = line.partition(b":")
        if name == b"data" and (colon or not value):
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def event_of(data: bytes, name: bytes = b"") -> bytes:
    """The bytes of one event carrying `data` (which has no line break)."""
    head = b"event: " + name + b"\n" if name else b""
    return head + b"data: " + data + b"\n\n"
