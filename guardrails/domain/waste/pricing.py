"""What a call would have cost asked otherwise: the price book on the same tokens, never a guess."""

from __future__ import annotations

import msgspec

from billing.domain.book import PriceBook
from billing.domain.extraction.record import Usage
from billing.domain.pricing import price

PLAIN_TEXT = frozenset(
    {"input_uncached", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h", "output_text"}
)  # fmt: skip
"""Buckets that every chat model of a provider has."""
WRITES = ("cache_write_5m", "cache_write_30m")


def priced(book: PriceBook, provider: str, model: str, at_ms: int, usage: Usage) -> int | None:
    """Nano-dollars of this usage by a model of the same provider; None where the book cannot say all of it."""
    rates = book.rates_at(provider, model, at_ms // 1000)
    return None if rates is None else price(usage, rates).cost_nano


def output_nano(book: PriceBook, provider: str, model: str, at_ms: int, usage: Usage, cost_nano: int) -> int:
    """The part of a charge that its output is; the whole where that cannot be told apart."""
    asked = {name: count for name, count in usage.buckets.items() if not name.startswith("output_")}
    alone = priced(book, provider, model, at_ms, _with(usage, asked))
    return cost_nano if alone is None else max(0, cost_nano - alone)


def with_cache(book: PriceBook, provider: str, model: str, at_ms: int, usage: Usage, resent: int) -> int | None:
    """Nano-dollars of the same call if `resent` tokens of its prompt had come from the provider's cache and the rest had been written to it.
    None where the provider offers nothing cheaper for that."""
    rates = book.rates_at(provider, model, at_ms // 1000)
    compiled = None if rates is None else rates.compiled(usage.context.tier, usage.context.prompt_total)
    if compiled is None:
        return None
    fresh, read = compiled.numerators.get("input_uncached", 0), compiled.numerators.get("cache_read")
    if read is None or read >= fresh:
        return None
    write = next((name for name in WRITES if compiled.numerators.get(name, 0) > fresh), "input_uncached")
    buckets = {name: count for name, count in usage.buckets.items() if name != "input_uncached"}
    buckets["cache_read"] = resent
    buckets[write] = usage.buckets.get("input_uncached", 0) - resent
    return priced(book, provider, model, at_ms, _with(usage, buckets))


def _with(usage: Usage, buckets: dict[str, int]) -> Usage:
    return msgspec.structs.replace(usage, buckets={name: count for name, count in buckets.items() if count})
