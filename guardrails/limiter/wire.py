"""What travels to and from the scripts, as typed values. Requests are packed arrays (one argument a call); `lua/*.lua` name the positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

NO_LIMIT = -1


class CounterAsk(msgspec.Struct, array_like=True, gc=False):
    """One budget's part of an admit."""

    suffix: str
    unit: str
    """nano, calls or tokens"""
    amount: int
    limit: int
    """settled + held + amount must not exceed it; NO_LIMIT for a soft budget"""
    start_ms: int
    end_ms: int
    throttle_at: int = NO_LIMIT
    throttle_per_minute: float = 0
    """0: the pace that spreads what is left of `cap` over what remains of the period"""
    cap: int = 0
    label: str = ""
    """The value an each-value counter counts, for people"""
    most_values: int = 0
    """How many values of an each-value budget get a counter in one period; 0: no bound"""


class RateAsk(msgspec.Struct, array_like=True, gc=False):
    """One rate limit's part of an admit: kind "g" (GCRA) or "c" (calls at the same time)."""

    suffix: str
    kind: str
    limit: int
    window_us: int = 0
    burst: int = 0
    cost: int = 1
    corrected: int = 0
    """1 when `cost` is a bound on tokens, to be corrected to the real number by the finish"""
    most_values: int = 0
    """How many new values of an each-value limit get a state of their own in one window; 0: no bound"""


class AdmitRequest(msgspec.Struct, array_like=True, gc=False):
    """An admit in full: what adopt.lua reads, and what a gateway hands in to a rebuild."""

    prefix: str
    workspace: str
    rid: str
    epoch: int
    ver: int
    min_seq: int
    amount: int
    """nano-USD held for the attempt, also where no budget counts money"""
    lease_ms: int
    ctx: str
    budgets: list[CounterAsk]
    rates: list[RateAsk]

    def whole(self) -> AdmitRequest:
        return self


class ShortRequest(msgspec.Struct, array_like=True, gc=False):
    """The same of a call whose budgets were packed before (`packed`): what differs between the calls of a kind are their amounts, and each
    follows from the unit: `amount`, `tokens`, or one call (`amount_in`; admit.lua says the same)."""

    prefix: str
    workspace: str
    rid: str
    epoch: int
    ver: int
    min_seq: int
    amount: int
    lease_ms: int
    ctx: str
    budgets: msgspec.Raw
    rates: list[RateAsk]
    tokens: int

    def whole(self) -> AdmitRequest:
        budgets = _decode_budgets(memoryview(self.budgets)[_HEAD:])
        for ask in budgets:
            ask.amount = amount_in(ask.unit, self.amount, self.tokens)
        return AdmitRequest(
            self.prefix, self.workspace, self.rid, self.epoch, self.ver, self.min_seq, self.amount, self.lease_ms,
            self.ctx, budgets, self.rates,
        )  # fmt: skip


Asking = AdmitRequest | ShortRequest


def amount_in(unit: str, nano: int, tokens: int) -> int:
    """What a call asks of a counter."""
    return nano if unit == "nano" else tokens if unit == "tokens" else 1


def packed(budgets: list[CounterAsk]) -> msgspec.Raw:
    """The budgets of a kind of call, as one string within a request: the store's MessagePack knows strings of any bytes, and no others."""
    text = encode(budgets)
    return msgspec.Raw(b"\xdb" + len(text).to_bytes(_HEAD - 1, "big") + text)


_HEAD = 5
"""Bytes of "a string that is so long": 0xdb, then the length"""


class FinishKind(StrEnum):
    SETTLE = "settle"
    VOID = "void"
    EXPIRE = "expire"
    LATE = "late"
    """The truth about an attempt that may already be expired; never ends one that is still running."""


class FinishRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    prefix: str
    workspace: str
    rid: str
    kind: str
    cost: int
    tokens: int
    calls: int
    payload: str


class Handed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a gateway knows of one call, for a rebuild."""

    hold: AdmitRequest
    end: FinishRequest | None
    sure: bool
    """Redis said yes to the hold. False: it gave no answer, and the void that followed may have found nothing."""


class RenewRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    prefix: str
    workspace: str
    rid: str
    lease_ms: int


class Ok(msgspec.Struct, frozen=True, gc=False):
    seq: int
    deadline_ms: int
    used: list[int]
    """Per budget: settled + held, this call included"""
    rates: list[tuple[int, int]]
    """Per rate limit: how many more would pass now, ms until it is full again"""


@dataclass(frozen=True, slots=True)
class Denied:
    index: int
    at_ms: int
    settled: list[int]
    held: list[int]


@dataclass(frozen=True, slots=True)
class Throttled:
    index: int
    retry_ms: int
    settled: list[int]
    held: list[int]


@dataclass(frozen=True, slots=True)
class Limited:
    index: int
    retry_ms: int
    """-1: more tokens at once than the limit ever allows"""


@dataclass(frozen=True, slots=True)
class TooManyValues:
    """An each-value budget has no room for one more value in this period."""

    index: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class OtherPeriod:
    """By the clock of Redis, another period than the asker's is current."""

    index: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class StalePolicy:
    ver: int


@dataclass(frozen=True, slots=True)
class StaleEpoch:
    epoch: int
    seq: int
    ver: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Redis lost something: rebuild before anything is admitted. `reason` names it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The workspace admits nothing: suspended or deleting."""

    state: str


@dataclass(frozen=True, slots=True)
class ClockSkew:
    redis_ms: int


@dataclass(frozen=True, slots=True)
class Full:
    """Memory is kept for finishes."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    pass


AdmitReply = (
    Ok
    | Denied
    | Throttled
    | Limited
    | TooManyValues
    | OtherPeriod
    | StalePolicy
    | StaleEpoch
    | Lost
    | Closed
    | ClockSkew
    | Full
    | Duplicate
)

encode = msgspec.msgpack.Encoder().encode
decode_handed = msgspec.msgpack.Decoder(Handed).decode
_decode_budgets = msgspec.msgpack.Decoder(list[CounterAsk]).decode


_REPLIES: dict[bytes, Callable[[list[Any]], AdmitReply]] = {
    b"DENIED": lambda raw: Denied(raw[1] - 1, raw[2], raw[3], raw[4]),
    b"THROTTLED": lambda raw: Throttled(raw[1] - 1, raw[2], raw[3], raw[4]),
    b"LIMITED": lambda raw: Limited(raw[1] - 1, raw[2]),
    b"CARDINALITY": lambda raw: TooManyValues(raw[1] - 1, raw[2]),
    b"PERIOD": lambda raw: OtherPeriod(raw[1] - 1, raw[2]),
    b"STALE_POLICY": lambda raw: StalePolicy(raw[1]),
    b"STALE_EPOCH": lambda raw: StaleEpoch(raw[1], raw[2], raw[3]),
    b"RESTARTED": lambda raw: Lost("restarted"),
    b"ROLLED_BACK": lambda raw: Lost("rolled back"),
    b"NEED_REBUILD": lambda raw: Lost(f"missing {raw[1].decode()}"),
    b"STATE": lambda raw: Lost(raw[1].decode()) if raw[1] in (b"rebuilding", b"corrupt") else Closed(raw[1].decode()),
    b"CLOCK_SKEW": lambda raw: ClockSkew(raw[1]),
    b"FULL": lambda raw: Full(),
    b"DUPLICATE": lambda raw: Duplicate(),
}


def admit_reply(raw: list[Any]) -> AdmitReply:
    """One call's answer of admit.lua -> a typed value."""
    if raw[0] == b"OK":
        return Ok(raw[1], raw[2], raw[3], list(map(tuple, raw[4])))
    return _REPLIES[raw[0]](raw)
