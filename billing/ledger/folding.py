"""The cold part of a ledger line in few bytes, and back. Pure; the format of ADR 0024.

What lines have in common (endpoint, names of usage buckets, rates, the words of the provider's usage JSON, which budgets they moved) is a *pattern*:
kept once a workspace, named by a number. What is a line's own (counts, milliseconds, the provider's id) follows in `detail`, in the order that the
pattern gives, as variable-length numbers. What can be calculated is not kept: a price line's cost is quantity times rate, a counter's
charge mostly the line's cost, the digest in a counter's name that of one of the line's dimensions.

A line has at most two patterns: its `shape` and, where it moved counters, its `plan`. `unfold(fold(x)) == x` for whatever the domain can make.
A pattern may stand in the detail itself: that is how lines are written of a workspace whose patterns never repeat.
"""

from __future__ import annotations

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from billing.domain.dimensions import OTHER
from billing.domain.keys import value_digest

Pattern = tuple[Any, ...]
"""Plain values and tuples, as JSON has them."""
Charges = Sequence[tuple[str, str, int]]
"""(counter, unit, amount)"""

FIELDS: Final = (
    "attempt", "credential_id", "model_requested", "model_served", "endpoint", "streamed", "http_status", "error", "price_version", "flags",
)  # fmt: skip
"""What a shape begins with, as it is."""
_SHARED, _OWN = 2, 3
"""First byte of a detail: its patterns are kept apart, or in it. (1 was the format before: `packing`.)"""
_SAME, _NUMBER, _PRODUCT = 0, 1, 2
"""A price line's value that is: the quantity of its unit in the usage; a number of its own; quantity times rate. Texts are given as they are."""
_AS_COST, _AS_USAGE, _OWN_AMOUNT = "cost", "usage", "own"
_HEX, _URL64, _TEXT = 1, 2, 0
_TAGGED, _DIGEST, _SPILLED = "tag:", "digest", "other"


# --- Shape ------------------------------------------------------------------------------------------------------------
def fold(
    fields: tuple[Any, ...],
    told: Mapping[str, Any],
    *,
    times: tuple[int, int, int | None, int | None, int | None],
    fingerprint: int | None,
) -> tuple[Pattern, bytes]:
    """(shape, tail). `fields` by `FIELDS`, flags as a tuple; `told`: usage, fees, breakdown, context, raw_usage and provider_request_id, where
    known; `times`: milliseconds from admission to event, seq, first_byte_ms, duration_ms, overhead_us; `fingerprint`: a signed 64-bit number."""
    later, seq, first_byte, duration, overhead = times
    numbers = [
        2 * later if later >= 0 else -2 * later - 1,
        seq if seq >= 0 else 0,
        0 if first_byte is None else first_byte + 1,
        0 if duration is None else duration + 1,
        0 if overhead is None else overhead + 1,
    ]
    usage: Mapping[str, int] = told.get("usage") or {}
    fees: Mapping[str, int] = told.get("fees") or {}
    names = _counted(usage, numbers)
    fee_names = _counted(fees, numbers)
    texts: list[str] = []
    lines = tuple([_line(line, usage, fees, numbers, texts) for line in told.get("breakdown") or ()])
    raw = _RUNS.split(told.get("raw_usage") or "")
    numbers += map(int, raw[1::2])
    prefix, kind, own = _id(told.get("provider_request_id") or "")
    context = told.get("context")
    shape = (
        *fields, names, fee_names, lines, tuple(context.items()) if context else (), tuple(raw[::2]), prefix, kind, fingerprint is not None,
    )  # fmt: skip
    tail = b"".join([_VARINTS[n] if n < _FEW else _varint(n) for n in numbers])
    if fingerprint is not None:
        tail += fingerprint.to_bytes(8, "big", signed=True)
    for text in texts:
        raw_text = text.encode()
        tail += _varint(len(raw_text)) + raw_text
    return shape, tail + own


def unfold(shape: Sequence[Any], tail: bytes) -> dict[str, Any]:
    """What `fold` was given: `FIELDS` by name, what was told, "later_ms", "seq" and the other times, "fingerprint"."""
    reader = Reader(tail)
    split = len(FIELDS)
    found: dict[str, Any] = dict(zip(FIELDS, shape[:split], strict=True))
    found["flags"] = list(found["flags"])
    names, fee_names, lines, context, raw, prefix, kind, has_fingerprint = shape[split:]
    later = reader.number()
    found["later_ms"] = later >> 1 if not later & 1 else -(later >> 1) - 1
    found["seq"] = reader.number()
    for name in ("first_byte_ms", "duration_ms", "overhead_us"):
        value = reader.number()
        found[name] = value - 1 if value else None
    usage, fees = _uncounted(names, reader), _uncounted(fee_names, reader)
    numbers = iter([reader.number() for line in lines for _, value in line if value == _NUMBER])
    runs = [reader.number() for _ in range(len(raw) - 1)]
    found["fingerprint"] = reader.signed64() if has_fingerprint else None
    breakdown = [_unline(line, usage, fees, numbers, reader) for line in lines]
    told = {
        "provider_request_id": _unid(prefix, kind, reader.rest()),
        "usage": usage,
        "fees": fees,
        "breakdown": breakdown,
        "context": dict(context),
        "raw_usage": raw[0] + "".join([f"{run}{text}" for run, text in zip(runs, raw[1:], strict=True)]),
    }
    found["told"] = {name: value for name, value in told.items() if value}
    return found


_RUNS: Final = re.compile("([1-9][0-9]{0,17})")
"""Zeros stay words: 0 where a usage has nothing, and what a fraction begins with."""


def _counted(counts: Mapping[str, int], numbers: list[int]) -> tuple[Any, ...]:
    """Names, and after them the places of those that are negative, if any."""
    if not counts:
        return ()
    values = list(counts.values())
    if min(values) >= 0:
        numbers += values
        return tuple(counts)
    numbers += map(abs, values)
    return (*counts, tuple([place for place, value in enumerate(values) if value < 0]))


def _uncounted(names: Sequence[Any], reader: Reader) -> dict[str, int]:
    negative: Sequence[int] = ()
    if names and not isinstance(names[-1], str):
        *names, negative = names
    counts = {name: reader.number() for name in names}
    for place in negative:
        counts[names[place]] *= -1
    return counts


def _line(
    line: Mapping[str, Any], usage: Mapping[str, int], fees: Mapping[str, int], numbers: list[int], texts: list[str]
) -> tuple[tuple[str, Any], ...]:
    if tuple(line) == _USUAL:
        unit, quantity, rate, cost = line.values()
        if type(quantity) is int and usage.get(unit) == quantity and cost == _cost(quantity, rate):
            return _usual(unit, rate)
    pairs: list[tuple[str, Any]] = []
    for name, value in line.items():
        if type(value) is int:
            unit = line.get("unit")
            if name == "quantity" and value == (usage.get(unit) if unit in usage else fees.get(unit)):  # type: ignore[arg-type]
                pairs.append((name, _SAME))
            elif value >= 0:
                numbers.append(value)
                pairs.append((name, _NUMBER))
            else:
                pairs.append((name, (value,)))
        elif name == "cost_usd":
            if value == _product(line):
                pairs.append((name, _PRODUCT))
            else:
                texts.append(value)
                pairs.append((name, ()))
        else:
            pairs.append((name, value))
    return tuple(pairs)


_USUAL: Final = ("unit", "quantity", "rate_per_m_usd", "cost_usd")
"""Price lines that are nearly all there are."""


@lru_cache(maxsize=4096)
def _usual(unit: str, rate: str) -> tuple[tuple[str, Any], ...]:
    return ("unit", unit), ("quantity", _SAME), ("rate_per_m_usd", rate), ("cost_usd", _PRODUCT)


def _unline(
    pairs: Sequence[Sequence[Any]], usage: Mapping[str, int], fees: Mapping[str, int], numbers: Any, reader: Reader
) -> dict[str, str | int]:
    line: dict[str, Any] = {}
    product = ""
    for name, value in pairs:
        if isinstance(value, str):
            line[name] = value
        elif isinstance(value, Sequence):
            line[name] = value[0] if value else reader.text()
        elif value == _SAME:
            unit = next(text for other, text in pairs if other == "unit")
            line[name] = usage[unit] if unit in usage else fees[unit]
        elif value == _NUMBER:
            line[name] = next(numbers)
        else:
            line[name], product = "", name
    if product:
        line[product] = _product(line)
    return line


def _product(line: Mapping[str, Any]) -> str | None:
    """Quantity times rate as `domain.pricing` writes it; None where the line has no such rate."""
    quantity, rate = line.get("quantity"), line.get("rate_per_m_usd")
    return _cost(quantity, rate) if type(quantity) is int and isinstance(rate, str) else None


def _cost(quantity: int, rate: str) -> str | None:
    exact = _exact(rate)
    if exact is None:
        return None
    number, divisor = exact
    # In dollars to the 18th digit, rounded up.
    digits = f"{-(-quantity * number // divisor):019d}"
    return f"{digits[:-18]}.{digits[-18:]}".rstrip("0").rstrip(".")


@lru_cache(maxsize=4096)
def _exact(rate: str) -> tuple[int, int] | None:
    """A plain decimal a million -> the same in 10^-18 each, as a ratio."""
    found = _RATE.fullmatch(rate)
    if found is None:
        return None
    whole, fraction = found[1], found[2] or ""
    return int(whole + fraction) * 10**12, 10 ** len(fraction)


_RATE: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,18}))?")


# --- The provider's id ------------------------------------------------------------------------------------------------
def _id(text: str) -> tuple[str, int, bytes]:
    """(what it begins with, how the rest is written, the rest)"""
    if not text:
        return "", _TEXT, b""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return "", _TEXT, text.encode()
    prefix, digits, rest = found.groups()
    if digits is not None:
        size = len(digits)
        return prefix or "", _HEX, _VARINTS[size] + bytes.fromhex(digits if size % 2 == 0 else f"0{digits}")
    size = len(rest)
    return prefix or "", _URL64, _VARINTS[size] + urlsafe_b64decode(rest + "A" * (-size % 4))[: -(-size * 3 // 4)]


def _unid(prefix: str, kind: int, own: bytes) -> str:
    if kind == _HEX:
        return prefix + own[1:].hex()[own[0] % 2 :]
    if kind == _URL64:
        return prefix + urlsafe_b64encode(own[1:] + b"\0\0").decode()[: own[0]]
    return prefix + own.decode()


_WRITTEN: Final = re.compile("([A-Za-z]{1,12}(?:[-_][A-Za-z]{1,11})?[-_])?(?:([0-9a-f]{1,127})|([0-9A-Za-z_-]{1,127}))")
"""What ids begin with, then hexadecimal digits or those of base64."""


# --- Plan -------------------------------------------------------------------------------------------------------------
def fold_charges(
    charges: Charges, *, cost_nano: int, usage: Mapping[str, int], dims: Sequence[str], tags: Mapping[str, str]
) -> tuple[Pattern, bytes]:
    """(plan, own part) of what a line charged its counters. `dims`: the line's values in the order of `lines.NAMED`."""
    plan: list[tuple[Any, ...]] = []
    own = b""
    for counter, unit, amount in charges:
        stem, digest = _counter(counter)
        where: Any = None
        if digest:
            where = _place(digest, dims, tags)
            if where == _DIGEST:
                own += bytes.fromhex(digest)
        how = _AS_COST
        if amount != cost_nano:
            if unit == "tokens" and amount == sum(usage.values()):
                how = _AS_USAGE
            else:
                how = _OWN_AMOUNT
                own += _varint(2 * amount if amount >= 0 else -2 * amount - 1)
        plan.append((stem, unit, where, how))
    return tuple(plan), own


def unfold_charges(
    plan: Sequence[Sequence[Any]], reader: Reader, *, cost_nano: int, dims: Sequence[str], tags: Mapping[str, str]
) -> list[list[Any]]:
    """[[counter, unit, amount], ...]. An amount is None where it is the sum of the line's usage, which follows in the detail: see `with_usage`."""
    charges: list[list[Any]] = []
    for stem, unit, where, how in plan:
        counter = stem
        if where is not None:
            if where == _DIGEST:
                digest = reader.take(16).hex()
            elif where == _SPILLED:
                digest = value_digest(OTHER)
            elif isinstance(where, int):
                digest = value_digest(dims[where])
            else:
                digest = value_digest(tags[where.removeprefix(_TAGGED)])
            counter = f"{stem}:{digest}"
        amount: int | None = cost_nano
        if how == _AS_USAGE:
            amount = None
        elif how == _OWN_AMOUNT:
            zigzag = reader.number()
            amount = zigzag >> 1 if not zigzag & 1 else -(zigzag >> 1) - 1
        charges.append([counter, unit, amount])
    return charges


def with_usage(charges: list[list[Any]], usage: Mapping[str, int]) -> list[list[Any]]:
    """The same, with the sum of the line's usage where it was charged."""
    for charge in charges:
        if charge[2] is None:
            charge[2] = sum(usage.values())
    return charges


@lru_cache(maxsize=32_768)
def _counter(counter: str) -> tuple[str, str]:
    """A counter's name without its value's digest, and that."""
    stem, _, digest = counter.rpartition(":")
    if stem.count(":") == 2 and _DIGESTS.fullmatch(digest):
        return stem, digest
    return counter, ""


_DIGESTS: Final = re.compile("[0-9a-f]{32}")
_value_of: Final[dict[str, str]] = {}
"""Digest -> the value it is of: as many as were lately seen."""


def _place(digest: str, dims: Sequence[str], tags: Mapping[str, str]) -> Any:
    """Which of the line's values a digest is of: a place in `dims`, a tag, the spilled ones together; or that it is given itself."""
    value = _value_of.get(digest)
    if value is None or (value not in dims and value not in tags.values() and value != OTHER):
        if len(_value_of) > 50_000:
            _value_of.clear()
        for one in (OTHER, *tags.values(), *dims):
            _value_of[value_digest(one)] = one
        value = _value_of.get(digest)
    if value is not None:
        if value in dims:
            return tuple(dims).index(value)
        if value == OTHER:
            return _SPILLED
        for name, one in tags.items():
            if one == value:
                return f"{_TAGGED}{name}"
    return _DIGEST


# --- A detail: both parts ---------------------------------------------------------------------------------------------
_encoder: Final = msgspec.json.Encoder()


@lru_cache(maxsize=16_384)
def body_of(pattern: Pattern) -> tuple[bytes, bytes]:
    """(a pattern as it is kept, its 128-bit digest)"""
    body = _encoder.encode(pattern)
    return body, blake2b(body, digest_size=16).digest()


@lru_cache(maxsize=4_096)
def pattern_of(body: bytes) -> Any:
    return msgspec.json.decode(body)


def detail(charged: bytes, tail: bytes) -> bytes:
    """A line's detail, whose patterns are kept apart."""
    return b"\x02" + charged + tail


def detail_with_patterns(shape: Pattern, plan: Pattern, charged: bytes, tail: bytes) -> bytes:
    """The same with its patterns in it."""
    own = zlib.compress(_encoder.encode((shape, plan)), 6, -15)
    return bytes((_OWN,)) + _varint(len(own)) + own + charged + tail


def opened(raw: bytes, shape: bytes | None, plan: bytes | None) -> tuple[Any, Any, Reader]:
    """(shape, plan, what follows) of a line's detail and the patterns kept apart. Raises ValueError on bytes that are no detail."""
    reader = Reader(raw)
    kind = reader.take(1)[0]
    if kind == _OWN:
        return *msgspec.json.decode(zlib.decompress(reader.take(reader.number()), -15)), reader
    if kind != _SHARED or shape is None:
        raise ValueError(f"not a detail of a ledger line, or its pattern is not at hand: {kind}")
    return pattern_of(shape), () if plan is None else pattern_of(plan), reader


class Reader:
    """Reads a detail from its beginning."""

    __slots__ = ("_place", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw, self._place = raw, 0

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self._raw[self._place]
            self._place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def take(self, count: int) -> bytes:
        part = self._raw[self._place : self._place + count]
        if len(part) < count:
            raise ValueError("a detail ends too early")
        self._place += count
        return part

    def signed64(self) -> int:
        return int.from_bytes(self.take(8), "big", signed=True)

    def text(self) -> str:
        return self.take(self.number()).decode()

    def rest(self) -> bytes:
        return self._raw[self._place :]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_FEW: Final = 16_384
_VARINTS: Final = tuple([_varint(number) for number in range(_FEW)])
"""Most numbers are small: looking them up is five times as fast."""
