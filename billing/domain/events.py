"""The events of the money stream: what admission and settlement tell the ledger. The codec on both sides of Redis.

Redis fields are short strings (see `StreamEvent.decode`); `x` and `p` are JSON so that a newer gateway may add a field that an
older writer keeps but does not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    HOLD = "hold"
    SETTLE = "settle"
    VOID = "void"
    EXPIRE = "expire"
    ADJUST = "adjust"
    RERATE = "rerate"
    """A correction by a price that arrived or changed. Its leg is in the event: 2 and above."""


class Basis(StrEnum):
    """How sure a charge is."""

    MEASURED = "measured"
    COUNTED = "counted"
    ASSUMED = "assumed"


class PriceStatus(StrEnum):
    """How complete a price is. "To the cent" covers EXACT only (BILLING.md, checklist 11)."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    PARTIAL = "partial"
    UNPRICED = "unpriced"


class CallContext(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """Who and what an attempt is for. Written with the hold, repeated on every later event of the attempt."""

    call: str
    """Call id (UUIDv7). A retry or fallback is another attempt (rid) of the same call."""
    attempt: int = 1
    key: str
    """Virtual key id (UUID)."""
    provider: str
    """Provider name of the credential used ("openai", "simulator", ...)."""
    credential: str = ""
    """Provider credential id (UUID)."""
    model: str
    """Model asked of the provider."""
    model_requested: str = ""
    """Model the client named, where it differs (alias, prefix, fallback)."""
    endpoint: str
    """The gateway's route, e.g. "/v1/chat/completions"."""
    streamed: bool = False
    dims: dict[str, str] = {}
    """Dimension -> value; keys are `Dimension` values (without model, provider, virtual_key: they have fields of their own)."""
    tags: dict[str, str] = {}
    price_version: str = ""
    fingerprint: str = ""
    """Keyed hash of what was asked, 16 hexadecimal digits: equal for equal questions of one workspace, and no way back to the question.
    Empty where the workspace wants none, or the question is no JSON or too long."""
    lease_ms: int = 0
    """How long the hold stands although nobody renews it (a batch runs for a day); 0: it is renewed while the call runs."""


NO_USAGE = msgspec.Raw(b"")
"""Left out of what is written, which asks whether it is this very object."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What became of an attempt. Written with its settle, void or adjust."""

    basis: Basis
    price_status: PriceStatus
    http_status: int = 0
    """The provider's status; 0 when it never answered."""
    error: str = ""
    """Stable error code where the attempt failed ("provider_timeout", "client_closed", ...)."""
    model_served: str = ""
    provider_request_id: str = ""
    buckets: Mapping[str, int] = {}
    """Disjoint usage buckets (BILLING.md, "Usage fields")."""
    fees: Mapping[str, int] = {}
    breakdown: list[dict[str, str | int]] = []
    """Price lines: [{"unit","quantity","rate_per_m_usd" or "rate_usd","cost_usd"}]."""
    context: dict[str, str] = {}
    """Served tier, speed, geo, ... where known."""
    raw_usage: msgspec.Raw = NO_USAGE
    """The provider's own usage JSON, for re-rating."""
    first_byte_ms: int = -1
    duration_ms: int = -1
    overhead_us: int = -1
    """Microseconds the gateway added before the attempt was sent."""
    flags: list[str] = []
    """Alarms: "over", "schema_drift", "provider_total_differs", "clamped", ..."""
    price_status_before: PriceStatus | None = None
    """Of a re-rating: how complete the price was until now."""


class Charge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One counter moved by an event, in the stream [counter, unit, amount].

    `counter` is the key suffix "b:<budget>:<period start ms>[:<value digest>]".
    """

    counter: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class StreamEvent:
    stream_id: str
    kind: Kind
    workspace_id: int
    seq: int
    rid: str
    at_ms: int
    cost_nano: int
    held_nano: int
    charges: tuple[Charge, ...]
    context: CallContext | None
    outcome: Outcome | None
    extra: Mapping[str, str] = field(default_factory=dict)
    leg: int = 0
    """Of a re-rating: its number in the attempt's lines. The other kinds say theirs by their kind."""

    @classmethod
    def decode(cls, stream_id: str, fields: Mapping[str, str | bytes]) -> StreamEvent:
        """A raw XRANGE entry -> an event. Raises ValueError (or msgspec.DecodeError, its subclass) on a poison entry."""
        try:
            return cls(
                stream_id=stream_id,
                kind=Kind(_text(fields["k"])),
                workspace_id=int(fields["w"]),
                seq=int(fields["q"]),
                rid=_text(fields["r"]),
                at_ms=int(fields["t"]),
                cost_nano=int(fields["c"]),
                held_nano=int(fields["h"]),
                charges=_CHARGES.decode(fields["b"]),
                context=_CONTEXT.decode(fields["x"]) if fields.get("x") else None,
                outcome=_OUTCOME.decode(fields["p"]) if fields.get("p") else None,
                leg=int(fields.get("l") or 0),
            )
        except KeyError as missing:
            raise ValueError(f"stream entry {stream_id} lacks field {missing}") from missing


def encode(value: CallContext | Outcome) -> bytes:
    """A context or an outcome -> the JSON that travels in the stream."""
    return _ENCODER.encode(value)


def context_from_json(raw: str | bytes) -> CallContext:
    return _CONTEXT.decode(raw)


def outcome_from_json(raw: str | bytes) -> Outcome:
    return _OUTCOME.decode(raw)


def outcome_as_plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON values, for columns of type jsonb."""
    plain: dict[str, Any] = msgspec.json.decode(_ENCODER.encode(outcome))
    return plain


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


_ENCODER = msgspec.json.Encoder()
_CONTEXT = msgspec.json.Decoder(CallContext)
_OUTCOME = msgspec.json.Decoder(Outcome)
_CHARGES = msgspec.json.Decoder(tuple[Charge, ...])
