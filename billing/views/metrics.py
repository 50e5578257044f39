"""What a cost question can measure, from the sums of the rollups: how it is computed, ranked and shown. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, log10
from typing import Final

from billing.domain import money
from billing.ledger.queries import Totals
from billing.views import amounts


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    title: str
    of: Callable[[Totals], float | None]
    """Dollars are nano-dollars here."""
    shown: Callable[[float], str]
    axis: Callable[[float], str]
    rank_by: str
    reads: tuple[str, ...]
    """The measures that `of` reads."""
    adds_up: bool = True
    """Whether values of parts add up to the whole's: then they are stacked, else drawn as lines."""
    more_is_worse: bool = True
    help: str = ""

    def text(self, totals: Totals) -> str:
        value = self.of(totals)
        return "–" if value is None else self.shown(value)


def dollars(value: float) -> str:
    return amounts.show(round(value))


def short_dollars(value: float) -> str:
    """On an axis: "$0", "$0.00003", "$0.05", "$20", "$1,500"."""
    return amounts.shown(round(value), _short)


def _short(value: float) -> str:
    usd = value / money.NANO_PER_USD
    if usd == 0:
        return "$0"
    if usd >= 10 or usd == int(usd):
        return f"${usd:,.0f}"
    decimals = 2 if usd >= 0.01 else min(9, 1 - floor(log10(usd)))  # never as a power of ten: "$0.00003"
    return f"${usd:.{decimals}f}".rstrip("0").rstrip(".")


def whole(value: float) -> str:
    return f"{round(value):,}"


def short(value: float) -> str:
    """On an axis: "1.5M"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def short_milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def percent(value: float) -> str:
    return f"{value * 100:.1f}%" if 0 < value < 0.995 else f"{value * 100:.0f}%"


def _ratio(part: int, of: int) -> float | None:
    return part / of if of else None


PROMPT: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens")


def _prompt(totals: Totals) -> int:
    return totals.input_tokens + totals.cache_read_tokens + totals.cache_write_tokens


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("cost", "Cost", lambda t: t.cost_nano, dollars, short_dollars, "cost_nano", ("cost_nano",)),
        Metric("calls", "Calls", lambda t: t.calls, whole, short, "calls", ("calls",), more_is_worse=False),
        Metric("tokens", "Tokens", lambda t: t.tokens, whole, short, "tokens", (*PROMPT, "output_tokens"), more_is_worse=False),
        Metric("input", "Input tokens", lambda t: t.input_tokens, whole, short, "input_tokens", ("input_tokens",), more_is_worse=False,
               help="Uncached input; the four kinds of tokens are disjoint."),
        Metric("cache_read", "Cached input tokens", lambda t: t.cache_read_tokens, whole, short, "cache_read_tokens",
               ("cache_read_tokens",), more_is_worse=False),
        Metric("cache_write", "Cache write tokens", lambda t: t.cache_write_tokens, whole, short, "cache_write_tokens",
               ("cache_write_tokens",), more_is_worse=False),
        Metric("output", "Output tokens", lambda t: t.output_tokens, whole, short, "output_tokens", ("output_tokens",), more_is_worse=False),
        Metric("cost_per_call", "Cost per call", lambda t: _ratio(t.cost_nano, t.calls), dollars, short_dollars, "cost_nano", ("cost_nano",
               "calls"), adds_up=False),
        Metric("latency", "Latency", lambda t: _ratio(t.duration_ms, t.timed), milliseconds, short_milliseconds, "attempts",
               ("duration_ms", "timed"), adds_up=False,
               help="Mean time from sending a call to its last byte."),
        Metric("first_byte", "Time to first byte", lambda t: _ratio(t.first_byte_ms, t.first_bytes), milliseconds, short_milliseconds,
               "attempts", ("first_byte_ms", "first_bytes"), adds_up=False, help="Mean time from sending a call to the answer's first byte."),
        Metric("cache_hits", "Cache hits", lambda t: _ratio(t.cache_read_tokens, _prompt(t)), percent, percent, "attempts", PROMPT, adds_up=False,
               more_is_worse=False, help="Share of the input tokens that the provider read from its cache."),
        Metric("errors", "Failed calls", lambda t: t.errors, whole, short, "errors", ("errors",), help="Attempts that failed, charged or not."),
        Metric("error_share", "Share that failed", lambda t: _ratio(t.errors, t.attempts), percent, percent, "attempts", ("errors",
               "attempts"), adds_up=False),
    )
}  # fmt: skip
