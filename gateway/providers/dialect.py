"""What a dialect is: a handful of pure functions and a meter. The pipeline knows providers through this and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from gateway.providers.template import EventTemplate

EVENT_STREAM = b"text/event-stream; charset=utf-8"
JSON = b"application/json"
STREAM_TYPE = b"text/event-stream"
OPENAI_HEADERS = frozenset({b"openai-beta", b"idempotency-key"})


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What must be different in the body that is sent. None: as the client wrote it."""

    model: str | None = None
    output_limit: int | None = None
    report_usage: bool = False
    """Ask a stream for its usage although the client did not."""


COUNTED_BYTES = 100_000


class Reading(msgspec.Struct, gc=False):
    """What the meter saw of an answer: all that the bill and the ledger need."""

    said: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the answer says of itself beside its usage: id, model, service_tier. Billing's extraction reads it together with the usage."""
    raw_usage: bytes = b""
    """The usage object as the provider wrote it; empty when it stated none."""
    usage_key: str = "usage"
    """The name under which the provider states its usage."""
    by_request: bool = False
    """The answer states no usage; what it costs follows from what was asked (characters, pictures, the length of a file)."""
    ended: bool = False
    """The answer came to its proper end, so nothing more can have been generated."""
    output_bytes: int = 0
    """UTF-8 bytes of generated text that arrived: at least as many as tokens, for byte-level tokenizers (BILLING.md, Bounds)."""
    texts: list[str] = msgspec.field(default_factory=list)
    """The generated text in pieces, for counting; emptied once it is longer than `COUNTED_BYTES` (then every byte counts)."""
    error: str = ""
    """The answer carries an error of the provider: its code, or its type."""
    flags: list[str] = msgspec.field(default_factory=list)
    nothing_said: bool = False
    """The provider says itself that it broke off, and nothing was generated until then."""

    @property
    def answered(self) -> bool:
        """It is an answer: zero tokens cannot be true of it (billing.domain.usage.is_believed)."""
        return not self.nothing_said and (self.output_bytes > 0 or bool(self.raw_usage))

    def add_text(self, text: str) -> None:
        self.output_bytes += len(text) if text.isascii() else len(text.encode())
        if self.output_bytes <= COUNTED_BYTES:
            self.texts.append(text)
        elif self.texts:
            self.texts.clear()


class StreamMeter(Protocol):
    """Fed the bytes of a streamed answer; gives the bytes for the client and keeps a reading."""

    reading: Reading

    @property
    def content_type(self) -> bytes:
        """Of what the client gets."""
        ...

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes:
        """At the end of the body: what was still held back."""
        ...

    def error_event(self, payload: bytes) -> bytes:
        """An error as this dialect puts it into a stream."""
        ...


class LearningMeter(StreamMeter, Protocol):
    """One that can do without most events of a stream."""

    def template(self) -> EventTemplate | None:
        """While it gives one, whole events of that kind need not be fed: they pass as they are, and all there is to note of them is their text."""
        ...

    def add_texts(self, texts: list[str]) -> None:
        """Notes the texts of events that were not fed, before it is fed or finished again."""
        ...


class Dialect(Protocol):
    """One family of APIs."""

    stream_type: bytes
    """The media type that a provider streams in."""

    @property
    def client_headers(self) -> frozenset[bytes]:
        """The client's headers that pass on (SECURITY.md S33)."""
        ...

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        """The provider's path (after its base URL), and its query, of one of our endpoints."""
        ...

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        """The body to send: the client's bytes, edited only where `wanted` says so."""
        ...

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter: ...

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        """The reading of an answer that was not streamed; None when it is not an answer of this dialect (F8)."""
        ...

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        """The answer that was read, as the client gets it who asked with `fields`."""
        ...


class Unstreamed:
    """For a dialect whose answers always come whole. A provider that streams one all the same has given no answer (F8)."""

    stream_type = STREAM_TYPE

    def stream_meter(self, fields: Mapping[str, Any]) -> StreamMeter:
        return _NoAnswer()


class _NoAnswer:
    """Implements `StreamMeter`: passes nothing, and reads no end."""

    content_type = EVENT_STREAM

    def __init__(self) -> None:
        self.reading = Reading(flags=["unexpected_stream"])

    def feed(self, chunk: bytes) -> bytes:
        self.reading.output_bytes += len(chunk)
        return b""

    def finish(self) -> bytes:
        return b""

    def error_event(self, payload: bytes) -> bytes:
        return b"data: " + payload + b"\n\n"


class PassesBytes(Protocol):
    """A dialect whose answers can be something else than text, and can come whole although a stream was asked for. It is known by having
    these two (a runtime check of the protocol itself costs more than reading a small answer)."""

    whole_when_streamed: bool

    def bytes_meter(self, fields: Mapping[str, Any], content_type: bytes) -> StreamMeter | None:
        """For an answer of this type that passes as it comes; None when it is to be read whole."""
        ...


def meter_of(dialect: Dialect, fields: Mapping[str, Any], content_type: bytes, *, streamed: bool) -> StreamMeter | None:
    """Who reads along with an answer of this type; None when it is to be read whole."""
    if streamed and dialect.stream_type in content_type:
        return dialect.stream_meter(fields)
    reader: Callable[[Mapping[str, Any], bytes], StreamMeter | None] | None = getattr(dialect, "bytes_meter", None)
    return None if reader is None else reader(fields, content_type)


def may_be_whole(dialect: Dialect) -> bool:
    """Whether a whole answer is one of this dialect although a stream was asked for."""
    return getattr(dialect, "whole_when_streamed", False) is True


def stated(raw: msgspec.Raw) -> bytes:
    """The bytes of a field that is there and not null, else b""."""
    text = bytes(raw)
    return b"" if text == b"null" else text
