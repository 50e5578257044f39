"""What an attempt of the past costs at the prices that are known now. Pure: what the books keep of it in, the corrected price out.

The price of a call is the one of its own moment, so a re-rating only finds a difference where that price was missing, or was changed
backwards (a negotiated discount, a corrected list). What was consumed never changes here: only what the books say of it is priced again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import msgspec

from billing.domain.events import Basis, PriceStatus
from billing.domain.extraction.record import INPUT_BUCKETS, Usage, UsageContext
from billing.domain.pricing import PriceBook, Priced, price
from billing.domain.usage import extract

HOLES = ("model_not_priced:", "tier_not_priced:", "unit_not_priced:", "served_model_unknown:")
"""Flags of what only a price can close."""
UNKNOWABLE = ("priority_tier", "container_time")
MISSING = (
    "unread:",
    "container_session_state_unknown",
    "image_model_assumed",
    "fallback_credit",
    "free_quota_unknown:",
)
"""Flags of what the answer did not say: no price can close them."""
RERATED = "rerated"


@dataclass(frozen=True, slots=True)
class Charged:
    """An attempt as its lines tell it: what it consumed, and what was charged for it so far."""

    provider: str
    endpoint: str
    model: str
    model_served: str
    streamed: bool
    at_s: int
    """Its admission: the second whose prices count."""
    basis: str
    price_status: str
    price_version: str
    cost_nano: int
    """Of all its lines."""
    hold_nano: int
    buckets: Mapping[str, int]
    fees: Mapping[str, int]
    context: Mapping[str, str]
    breakdown: Sequence[Mapping[str, Any]]
    raw_usage: str
    flags: Sequence[str]


class Left(StrEnum):
    """Why an attempt stays as it is."""

    SAME = "its price has not changed"
    UNPRICED = "it still has no price"
    NO_USAGE = "the books keep nothing that could be priced again"
    OTHER_LINES = "it reads differently now, which is no change of price"
    PARTS = "its usage by several models cannot be told apart any more"


@dataclass(frozen=True, slots=True)
class Corrected:
    """What it costs after all."""

    cost_nano: int
    status: PriceStatus
    breakdown: list[dict[str, str | int]]
    flags: list[str]


def rerate(attempt: Charged, book: PriceBook) -> Corrected | Left:
    """The attempt at the prices of `book`, or why it is left alone."""
    unsure = attempt.price_status in (PriceStatus.UNPRICED, PriceStatus.PARTIAL)
    if not unsure and attempt.price_version == book.version:
        return Left.SAME  # the very prices that were pinned
    if not attempt.buckets and not attempt.fees:
        return Left.NO_USAGE
    if attempt.basis == Basis.ASSUMED and not unsure:
        return Left.NO_USAGE  # charged at its hold, which is more than its usage says
    usage = _usage(attempt)
    if usage is None:
        return Left.PARTS
    corrected = _at(attempt, usage, book, attempt.at_s)
    if isinstance(corrected, Left):
        return corrected
    if not unsure:
        near = (_at(attempt, usage, book, attempt.at_s + beside) for beside in (-1, 1))
        if any(isinstance(one, Corrected) and one.cost_nano == attempt.cost_nano for one in (corrected, *near)):
            return Left.SAME  # it may have been priced a moment before or after its id was made
        if _lines(corrected.breakdown) != _lines(attempt.breakdown):
            return Left.OTHER_LINES
    if (corrected.cost_nano, corrected.status) == (attempt.cost_nano, attempt.price_status):
        return Left.SAME
    return corrected


def _at(attempt: Charged, usage: Usage, book: PriceBook, at_s: int) -> Corrected | Left:
    moment = datetime.fromtimestamp(at_s, UTC)
    rates = book.rates_of_answer(attempt.provider, attempt.model, attempt.model_served, moment)
    priced = price(usage, rates)
    if priced.cost_nano is None:
        return Left.UNPRICED
    cost = priced.cost_nano
    if attempt.basis == Basis.COUNTED and attempt.hold_nano:
        cost = min(cost, attempt.hold_nano)  # a count is a bound, and never above the bound of the hold
    return Corrected(cost, priced.status, priced.breakdown, _flags(attempt, priced))


def _flags(attempt: Charged, priced: Priced) -> list[str]:
    kept = [flag for flag in attempt.flags if not flag.startswith(HOLES)]
    return list(dict.fromkeys((*kept, *priced.flags, RERATED)))


def _lines(breakdown: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, int, str]]:
    return Counter((str(line["unit"]), int(line["quantity"]), str(line.get("model", ""))) for line in breakdown)


# --- What was consumed ------------------------------------------------------------------------------------------------
def _usage(attempt: Charged) -> Usage | None:
    """As it was priced then. The raw usage is a witness: where it still reads as the same buckets, it also says which model each of several
    parts was for. None where there were parts and nobody can tell them apart any more."""
    context = _context(attempt)
    read = _read_again(attempt, context)
    if read is not None:
        return read
    if any(line.get("model") for line in attempt.breakdown):
        return None
    return Usage(
        buckets=attempt.buckets,
        fees=attempt.fees,
        context=context,
        counted=attempt.basis != Basis.MEASURED,
        unknowable=tuple(flag for flag in attempt.flags if flag in UNKNOWABLE),
        missing=tuple(flag for flag in attempt.flags if flag.startswith(MISSING)),
    )


def _context(attempt: Charged) -> UsageContext:
    said = attempt.context
    prompt = said.get("prompt_total", "")
    inputs = sum(quantity for bucket, quantity in attempt.buckets.items() if bucket in INPUT_BUCKETS)
    return UsageContext(
        tier=said.get("tier", "standard"),
        batch=said.get("batch") == "true",
        regional=said.get("regional", ""),
        prompt_total=int(prompt) if prompt.isdigit() else inputs,
        stated_cost_usd=_decimal(said.get("stated_cost_usd")),
        model_served=attempt.model_served,
        response_id=said.get("response_id", ""),
    )


def _read_again(attempt: Charged, context: UsageContext) -> Usage | None:
    if attempt.basis != Basis.MEASURED or not attempt.raw_usage:
        return None
    try:
        raw = _JSON.decode(attempt.raw_usage)
    except (msgspec.DecodeError, ArithmeticError):
        return None
    payload = {"model": attempt.model_served or attempt.model, "usage": raw}
    if attempt.provider in ("gemini", "google") and isinstance(raw, Mapping) and "promptTokenCount" in raw:
        payload = {"modelVersion": attempt.model_served or attempt.model, "usageMetadata": raw}
    usage = extract(
        attempt.provider,
        attempt.endpoint,
        payload,
        request={"model": attempt.model},
        streamed=attempt.streamed,
    )
    same = usage.all_buckets == dict(attempt.buckets) and usage.all_fees == dict(attempt.fees)
    if not usage.measured or not same:
        return None
    own = {name: getattr(context, name) for name in ("tier", "batch", "regional")}
    parts = tuple(
        msgspec.structs.replace(part, context=msgspec.structs.replace(part.context, **own)) for part in usage.parts
    )
    return msgspec.structs.replace(usage, context=context, parts=parts)


def _decimal(text: str | None) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return None


_JSON = msgspec.json.Decoder(float_hook=Decimal)


def totals_by_model(found: Sequence[tuple[Charged, Corrected]]) -> Iterator[tuple[str, str, int, int, int]]:
    """(provider, model, attempts, nano before, nano after), the largest change first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for attempt, corrected in found:
        row = sums.setdefault((attempt.provider, attempt.model), [0, 0, 0])
        row[0] += 1
        row[1] += attempt.cost_nano
        row[2] += corrected.cost_nano
    for (provider, model), (count, before, after) in sorted(sums.items(), key=lambda row: -abs(row[1][2] - row[1][1])):
        yield provider, model, count, before, after
