"""How a stream writes the event that only adds text, learnt from one such event: the next are known by their bytes, no field is looked at.

A model's answer is hundreds of events that differ in one string. Whether an event is such a one is decided exactly: all its bytes are those of the
event that was learnt, but for one JSON string (the text), and for one of padding where the provider pads. So it parses as that one did.
"""

from __future__ import annotations

import re

import msgspec

_string = msgspec.json.Decoder(str).decode
_PADDING = re.compile(rb'"obfuscation": ?(?="[0-9A-Za-z]+"}\Z)')
"""OpenAI makes its events equally long so that their length does not tell their words; last in the event."""
_HEAD = re.compile(rb"(event: \w+\n)?data: ")
_UNSURE = re.compile(rb"[\r\n\\\\]")
"""A line break would make several lines of one event; with an escape a name or a text may be written in more than one way."""
MOST_LESSONS = 16
"""Events of a stream from which a template is made: where each is written in another way (its time in it, say), none of them serves the next."""
MOST_BYTES = 4096
"""Of a piece of the chunked coding that is known by its bytes, its framing included."""


_QUOTE = 0x22
_FRAMES = {
    size + len(head) + 2: head for size, head in ((size, b"%x\r\n" % size) for size in range(1, MOST_BYTES - 16))
}
"""By the length of a whole piece of HTTP's chunked coding, how it must begin (RFC 9112 section 7.1). No two sizes share a length."""


class EventTemplate:
    """Of one stream. Holds only bytes: nothing that an event says is taken from here."""

    __slots__ = ("_before", "_between", "_end", "_framed_end", "_lead", "_tail")

    def __init__(self, before: bytes, between: bytes, end: bytes) -> None:
        """Of an event: what stands before the text, between it and the padding (b"" where there is none), and at the end; none with quotes."""
        self._before, self._end, self._framed_end = before, end, end + b"\r\n"
        self._between = b'"%b"' % between if between else b""
        self._lead, self._tail = len(before), -len(self._framed_end)

    def text_of(self, event: bytes) -> str | None:
        """The text that a whole event adds; None when the event is another one."""
        said = event[self._lead : self._tail + 2]
        return self._text(said) if b"".join((self._before, said, self._end)) == event else None

    def text_of_piece(self, wire: bytes) -> str | None:
        """The same of one whole piece of the chunked coding that is such an event and no more."""
        try:
            frame = _FRAMES[len(wire)]
        except KeyError:
            return None
        said = wire[len(frame) + self._lead : self._tail]
        if b"".join((frame, self._before, said, self._framed_end)) != wire:
            return None
        if self._between:
            return self._text(said)
        try:  # as `_text`, without another frame: nearly every piece of nearly every stream comes here
            return _string(said) if said[0] == _QUOTE == said[-1] else None
        except (ValueError, IndexError):
            return None

    def texts_of(self, wire: bytes) -> list[str] | None:
        """The same of several pieces; None when there is anything else."""
        texts: list[str] = []
        at = 0
        while at < len(wire):
            after = wire.find(b"\r", at + 4) + 2  # such an event has no such byte, and no frame has its own so late
            text = self.text_of_piece(wire[at:after])
            if text is None:
                return None
            texts.append(text)
            at = after
        return texts

    def _text(self, said: bytes) -> str | None:
        """Of what stands where the text, or text and padding, must be. A string's own bytes hold no line break, and none is beside it."""
        try:
            if self._between:
                said, between, padding = said.partition(self._between)
                if not padding[:-1].isalnum() or padding[-1] != _QUOTE:
                    return None
                said += between[:1]
            return _string(said) if said[0] == _QUOTE == said[-1] else None
        except (ValueError, IndexError):  # no JSON string (a quote or a line break within it, say), or not UTF-8
            return None


def learn(event: bytes, data: bytes, field: str, text: str) -> EventTemplate | None:
    """From a whole event, and its JSON, that is known to add `text` under the name `field` and nothing else that anybody heeds.

    None when it cannot be told for certain which bytes the text is, or when the event is long or of an uncommon form.
    """
    head = event[: -len(data) - 2]
    if not text or len(event) > MOST_BYTES or not _HEAD.fullmatch(head) or event != b"%b%b\n\n" % (head, data):
        return None
    name = b'"%b":' % field.encode()
    start = data.find(name) + len(name)
    start += data[start : start + 1] == b" "
    if data.count(name[:-1]) != 1 or start < len(name) or _UNSURE.search(data) is not None:
        return None
    said = b'"%b"' % text.encode()
    end = start + len(said)
    if data[start:end] != said:
        return None
    before = head + data[:start]
    padding = _PADDING.search(data, end)
    if padding is None:
        return EventTemplate(before, b"", data[end:] + b"\n\n")
    return EventTemplate(before, data[end : padding.end()], b"}\n\n")
