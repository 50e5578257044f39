"""How a stream writes the event that only adds text, learnt from one such event: the next are known by their bytes, no field is looked at.

A model's answer is hundreds of events that differ in one string. Whether an event is such a one is decided exactly: all its bytes are those of the
event that was learnt, but for one JSON string (the text), and for one of padding where the provider pads. So it parses as that one did.
"""

from __future__ import annotations

import re

import msgspec

_STRING = msgspec.json.Decoder(str)
_PADDING = re.compile(rb'"obfuscation": ?"(?=[0-9A-Za-z]+"}\Z)')
"""OpenAI makes its events equally long so that their length does not tell their words; last in the event."""
_TEXT_FIELD = re.compile(rb'"content": ?"')
_UNSURE = re.compile(rb"[\r\n\\\\]")
"""A line break would make several lines of one event; with an escape a name or a text may be written in more than one way."""
MOST_BYTES = 4096
"""Of a piece of the chunked coding that is known by its bytes, its framing included."""


def _frames() -> tuple[bytes, ...]:
    """By the length of a whole piece of HTTP's chunked coding, how it must begin: RFC 9112 section 7.1, written the usual way."""
    frames = [b""] * MOST_BYTES
    for size in range(1, MOST_BYTES - 16):
        head = b"%x\r\n" % size
        frames[len(head) + size + 2] = head
    return tuple(frames)


_FRAMES = _frames()


class EventTemplate:
    """Of one stream. Holds only bytes: nothing that an event says is taken from here."""

    __slots__ = ("_before", "_between", "_end", "_framed_end")

    def __init__(self, before: bytes, between: bytes, end: bytes) -> None:
        """Of an event: what stands before the text, from there to the padding (b"" where there is none), and to the end; each with its quotes."""
        self._before, self._between, self._end = before, between, end
        self._framed_end = end + b"\r\n"

    def text_of(self, event: bytes) -> str | None:
        """The text that a whole event adds; None when the event is another one."""
        if event.startswith(self._before) and event.endswith(self._end):
            return self._text(event, len(self._before) - 1, len(event) - len(self._end) + 1)
        return None

    def texts_of(self, wire: bytes) -> list[str] | None:
        """The texts of pieces of the chunked coding, each of which is such an event and no more; None when there is anything else."""
        before, end = self._before, self._framed_end
        texts: list[str] = []
        at, whole = 0, len(wire)
        while at < whole:
            after = wire.find(b"\r", at + 4) + 2  # the events have no such byte, and no head has its own so late
            length = after - at
            if not 0 < length < MOST_BYTES or after > whole:
                return None
            frame = _FRAMES[length]
            start = at + len(frame)
            if not (
                frame
                and wire.startswith(frame, at)
                and wire.startswith(before, start)
                and wire.endswith(end, start, after)
            ):
                return None
            text = self._text(wire, start + len(before) - 1, after - len(end) + 1)
            if text is None:
                return None
            texts.append(text)
            at = after
        return texts

    def _text(self, data: bytes, start: int, end: int) -> str | None:
        """Of `data`, from the quote that opens the text to the quote that closes the last string."""
        if self._between:
            padding = data.find(self._between, start + 1, end)
            if padding < 0 or not data[padding + len(self._between) : end - 1].isalnum():
                return None
            end = padding + 1
        try:
            return _STRING.decode(data[start:end])
        except ValueError:  # no JSON string (a quote or a line break within it, say), or not UTF-8
            return None


def learn(data: bytes, text: str) -> EventTemplate | None:
    """From the JSON of an event that is known to add `text` as its only "content", and nothing else that anybody heeds. None when it cannot be told
    for certain which bytes the text is, or when the event is long."""
    field = _TEXT_FIELD.search(data)
    if field is None or len(data) > MOST_BYTES or data.count(b'"content"') != 1 or _UNSURE.search(data) is not None:
        return None
    start = field.end()
    end = start + len(text.encode())
    if not text or not data.startswith(b'"', end) or data[start:end] != text.encode():
        return None
    padding = _PADDING.search(data, end)
    before, rest = b"data: " + data[:start], data[end:] + b"\n\n"
    if padding is None:
        return EventTemplate(before, b"", rest)
    return EventTemplate(before, data[end : padding.end()], b'"}\n\n')
