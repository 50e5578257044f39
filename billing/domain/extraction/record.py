"""The canonical usage record: disjoint buckets, fees and context. What a provider's answer becomes before it is priced.

Every token is in exactly one bucket, so that a sum of buckets times rates is a bill (BILLING.md, "Usage fields").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

INPUT_BUCKETS = frozenset(
    {
        "input_uncached", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h", "tool_input",
        "input_audio", "input_audio_cached", "input_image", "input_image_cached", "input_video", "input_video_cached",
    }
)  # fmt: skip
OUTPUT_BUCKETS = frozenset({"output_text", "output_audio", "output_image", "output_video"})
OTHER_BUCKETS = frozenset({"audio_milliseconds", "characters", "pages", "images"})
BUCKETS = INPUT_BUCKETS | OUTPUT_BUCKETS | OTHER_BUCKETS
_TOKEN_BUCKETS = INPUT_BUCKETS | OUTPUT_BUCKETS

MOST_UNKNOWN = 8
"""Keys of one object that are named when nobody has taught us them; the others are one."""
MAX_COUNT = 1_000_000_000
"""Above this a count is garbage, not usage: no call reads or writes a billion tokens."""


class UsageContext(msgspec.Struct, frozen=True, gc=False):
    """What decides *which* rate applies, as the answer states it. Empty strings and None: the answer does not say."""

    tier: str = "standard"
    """Served service tier: standard, flex, priority, batch, fast, or the provider's own word when it is none of these."""
    batch: bool = False
    regional: str = ""
    """A region that can carry an uplift ("us", "eu", "us-central1"); empty for global."""
    prompt_total: int = 0
    """Prompt tokens including cache reads and writes: what long-context thresholds look at."""
    stated_cost_usd: Decimal | None = None
    """The provider's own price of this call (xAI ticks, OpenRouter cost)."""
    model_served: str = ""
    response_id: str = ""

    def as_plain(self) -> dict[str, str]:
        """The context as text fields for the ledger; only what says something."""
        plain = {"tier": self.tier, "prompt_total": str(self.prompt_total)}
        if self.batch:
            plain["batch"] = "true"
        if self.regional:
            plain["regional"] = self.regional
        if self.stated_cost_usd is not None:
            plain["stated_cost_usd"] = format(self.stated_cost_usd, "f")
        if self.response_id:
            plain["response_id"] = self.response_id
        return plain


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What one answer consumed. `measured` is False when it cannot be used for a bill: then count, or assume (PROTOCOL.md, Finish)."""

    buckets: Mapping[str, int] = msgspec.field(default_factory=dict)
    fees: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Billable events by fee name: web_search, file_search, container_session, grounding_query, ..."""
    context: UsageContext = UsageContext()
    raw: Any = None
    """The provider's own usage object, untouched, for re-rating."""
    measured: bool = True
    counted: bool = False
    """Counted by us, not stated by the provider: the price is then ESTIMATED."""
    flags: tuple[str, ...] = ()
    """Alarms: "schema_drift:<key>", "bad_count:<key>", "provider_total_differs", ..."""
    unknowable: tuple[str, ...] = ()
    """Reasons why the bill cannot be known from this answer ("priority_tier", "container_time"): the price is then null, never zero."""
    missing: tuple[str, ...] = ()
    """Known lines that the answer does not state but that are probably free or small: the price is then PARTIAL."""
    parts: tuple[Usage, ...] = ()
    """Iterations priced on their own, by another model or prompt size; their tokens are not in `buckets`."""

    @property
    def input_tokens(self) -> int:
        own = sum([n for name, n in self.buckets.items() if name in INPUT_BUCKETS])
        return own + sum([part.input_tokens for part in self.parts]) if self.parts else own

    @property
    def output_tokens(self) -> int:
        own = sum([n for name, n in self.buckets.items() if name in OUTPUT_BUCKETS])
        return own + sum([part.output_tokens for part in self.parts]) if self.parts else own

    @property
    def all_buckets(self) -> dict[str, int]:
        """The buckets of this usage and its parts together, for the ledger's columns (a price needs them apart)."""
        if not self.parts:
            return dict(self.buckets)
        return _merged([self.buckets, *(part.all_buckets for part in self.parts)])

    @property
    def all_fees(self) -> dict[str, int]:
        if not self.parts:
            return dict(self.fees)
        return _merged([self.fees, *(part.all_fees for part in self.parts)])

    @property
    def total_tokens(self) -> int:
        if self.parts:
            return self.input_tokens + self.output_tokens
        total = 0  # by hand: once for every call, of two or three buckets
        for name, count in self.buckets.items():
            if name in _TOKEN_BUCKETS:
                total += count
        return total

    def with_flags(self, flags: Iterable[str]) -> Usage:
        return msgspec.structs.replace(self, flags=(*self.flags, *flags))


def _merged(sources: Iterable[Mapping[str, int]]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for source in sources:
        for name, quantity in source.items():
            merged[name] = merged.get(name, 0) + quantity
    return merged


NOTHING = Usage()
"""An error before the first token: measured, and zero."""


class Tally:
    """Gathers one Usage while reading a payload that may hold anything. Never raises, never counts below zero."""

    __slots__ = ("buckets", "fees", "flags", "measured", "missing", "parts", "unknowable")

    def __init__(self) -> None:
        self.buckets: dict[str, int] = {}
        self.fees: dict[str, int] = {}
        self.flags: list[str] = []
        self.measured = True
        self.unknowable: list[str] = []
        self.missing: list[str] = []
        self.parts: list[Usage] = []

    def count(self, source: Mapping[str, Any], key: str, *, required: bool = False) -> int:
        """The count under `key`: a whole number from 0 to MAX_COUNT. Absent or null is 0, anything else makes the usage unusable."""
        value = source.get(key)
        if type(value) is int and 0 <= value <= MAX_COUNT:
            return value
        if value is None:
            if required:
                self.unusable(f"missing_count:{key}")
            return 0
        self.unusable(f"bad_count:{key}")
        return 0

    def section(self, source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """The nested object under `key`; an empty one when absent or null."""
        value = source.get(key)
        if value is None:
            return {}
        if type(value) is dict or isinstance(value, Mapping):  # the second is slow, and rarely needed
            return value
        self.unusable(f"bad_section:{key}")
        return {}

    def part_of(self, whole: int, part: int, what: str) -> int:
        """`part`, which the provider says is inside `whole`; more than the whole is a contradiction."""
        if part <= whole:
            return part
        self.unusable(f"subset_exceeds_total:{what}")
        return whole

    def add(self, bucket: str, quantity: int) -> None:
        if quantity > 0:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + quantity

    def fee(self, name: str, quantity: int) -> None:
        if quantity > 0:
            self.fees[name] = self.fees.get(name, 0) + quantity

    def flag(self, text: str) -> None:
        if text not in self.flags:
            self.flags.append(text)

    def unusable(self, why: str) -> None:
        self.measured = False
        self.flag(why)

    def expect(self, source: Mapping[str, Any], known: frozenset[str], where: str = "") -> None:
        """Flags every key that nobody has taught us: it may be billed (BILLING.md, checklist 9)."""
        if source.keys() <= known:
            return
        unknown = sorted(source.keys() - known, key=str)
        if len(unknown) > MOST_UNKNOWN:  # a provider's answer must not fill the ledger
            self.flag(f"schema_drift:{where}(more)")
            self.missing.append(f"unread:{where}(more)")
        for key in unknown[:MOST_UNKNOWN]:
            self.flag(f"schema_drift:{where}{str(key)[:64]}")
            value = source[key]
            if isinstance(value, Mapping | list) or (isinstance(value, int | float) and value > 0):
                self.missing.append(f"unread:{where}{str(key)[:64]}")  # it may well be a line of the bill

    def usage(self, context: UsageContext, raw: Any) -> Usage:
        return Usage(
            buckets=self.buckets,
            fees=self.fees,
            context=context,
            raw=raw,
            measured=self.measured,
            flags=tuple(self.flags),
            unknowable=tuple(self.unknowable),
            missing=tuple(self.missing),
            parts=tuple(self.parts),
        )


def text_of(source: Mapping[str, Any], key: str) -> str:
    """A short text field, or empty when it is absent or of another type."""
    value = source.get(key)
    return value[:256] if isinstance(value, str) else ""
