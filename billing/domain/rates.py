"""The rates of one model at one moment, compiled to integers for each context: tier, long prompt, region. Pinned at admission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Protocol

from billing.domain.extraction.record import BUCKETS
from billing.domain.money import NANO_PER_USD, fraction_of_usd
from billing.domain.plain import PlainTerms

PER_MILLION, PER_THOUSAND = 1_000_000, 1_000
PER: Mapping[str, int] = {
    **dict.fromkeys(BUCKETS, PER_MILLION),
    "audio_milliseconds": 3_600_000,  # printed per hour
    "pages": PER_THOUSAND,
    "annotated_pages": PER_THOUSAND,
    "citation": PER_MILLION,
    "reasoning": PER_MILLION,
    "cache_token_seconds": 3_600 * PER_MILLION,  # printed per million tokens and hour
    "images": 1,
    "container_session": 1,
    "container_session_4g": 1,
    "container_session_16g": 1,
    "container_session_64g": 1,
}
"""How many units a printed price is for. Fees that are not named here are printed per thousand events."""

SAME_RATE_AS: Mapping[str, tuple[str, ...]] = {
    "cache_read": ("input_uncached",),
    "cache_write_5m": ("cache_write_30m", "input_uncached"),
    "cache_write_30m": ("cache_write_5m", "input_uncached"),
    "tool_input": ("input_uncached",),
    "input_image": ("input_uncached",),
    "input_image_cached": ("cache_read", "input_image", "input_uncached"),
    "input_video": ("input_uncached",),
    "input_video_cached": ("cache_read", "input_video", "input_uncached"),
    "input_audio_cached": ("input_audio",),
}
"""Where a table prints no rate of its own the tokens are plain input (never cheaper). Audio and generated media have no such fallback."""

STANDARD = "standard"


@dataclass(frozen=True, slots=True)
class ModelMeta:
    """What bounds need to know of a model. Zero or empty: not known."""

    context_window: int = 0
    max_output_tokens: int = 0
    tokenizer: str = ""
    """o200k, cl100k, claude, gemini, bytes (T <= UTF-8 bytes) or "" (unknown)."""
    mode: str = ""
    """chat, responses, completion, embedding, image_generation, audio_speech, audio_transcription, moderation, ..."""
    reasoning: bool = False
    modalities: frozenset[str] = frozenset()
    """Inputs beside text: image, audio, video, pdf."""
    image_tokens_cap: int = 0
    """The most tokens one image can cost on this model."""
    released: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Rates of one context as integers: cost_nano = ceil(sum(quantity * numerators[unit]) / denominator)."""

    numerators: Mapping[str, int]
    denominator: int
    printed: Mapping[str, str]
    """The rate of each unit as a decimal string of dollars per `PER` units, for the breakdown."""
    long_context: bool = False
    flags: tuple[str, ...] = ()


class Siblings(Protocol):
    """Whoever finds the rates of other models: the price book."""

    def rates_at(self, provider: str, model: str, at: int) -> Rates | None: ...


class Rates:
    """All rates of one model that are valid at one moment: tiers, thresholds and uplifts. Pinned at admission, used at settlement."""

    __slots__ = (
        "_compiled",
        "_tables",
        "_thresholds",
        "at",
        "book",
        "discount",
        "free",
        "meta",
        "model",
        "peak",
        "plain",
        "provider",
        "regional",
    )

    def __init__(
        self,
        *,
        book: Siblings,
        provider: str,
        model: str,
        at: int,
        tables: Mapping[tuple[str, int], Mapping[str, str]],
        meta: ModelMeta,
        regional: str,
        free: bool,
        discount: Fraction,
    ) -> None:
        self.book, self.provider, self.model, self.at, self.meta = book, provider, model, at, meta
        self.regional, self.free, self.discount = regional, free, discount
        self.peak: Rates | None = None
        """The same with every price window open, where the model has windows: a call admitted off-peak may be processed at peak."""
        self._tables = tables
        self._thresholds = {
            tier: sorted(above for named, above in tables if named == tier and above >= 0)
            for tier in {named for named, _ in tables}
        }
        self._compiled: dict[tuple[str, int, bool, bool], Compiled | None] = {}
        self.plain: dict[tuple[str, str, str], PlainTerms | None] = {}
        """(provider, endpoint, address) -> the terms of plain chats there, kept by `quote`"""

    @property
    def lowest_threshold(self) -> int:
        """The longest prompt for which the standard rates are sure to hold, those of peak hours included."""
        return min(
            [t for rates in (self, self.peak) if rates for t in rates._thresholds.get(STANDARD, ())], default=1 << 62
        )

    @property
    def tiers(self) -> frozenset[str]:
        return frozenset(self._thresholds)

    def compiled(self, tier: str = STANDARD, prompt_total: int = 0, regional: bool = False) -> Compiled | None:
        """The integer rates of a context, or None when the table has none for that tier: an unknown tier is never standard."""
        thresholds = self._thresholds.get(tier)
        if thresholds is None:
            if not self.free:
                return None
            thresholds = []
        above = -1
        for threshold in thresholds:
            if prompt_total > threshold:
                above = threshold
        uncharted = above < 0 and tier != STANDARD and any(prompt_total > t for t in self._thresholds.get(STANDARD, ()))
        key = (tier, above, regional, uncharted)
        try:
            return self._compiled[key]
        except KeyError:
            pass
        made = self._compiled[key] = self._compile(tier, above, regional, uncharted)
        return made

    def served(self, model: str) -> Rates | None:
        """The rates, at the same moment, of another model of the same provider (an alias, a fallback, an advisor)."""
        return self.book.rates_at(self.provider, model, self.at)

    def dearest(self, tiers: Iterable[str], prompt_total: int, regional: bool) -> Compiled | None:
        """Per unit the highest of several tiers' rates, both sides of every threshold that `prompt_total` can reach. For bounds."""
        options = []
        for tier in tiers:
            reachable = {0, *(t + 1 for t in self._thresholds.get(tier, ()) if prompt_total > t)}
            for prompt in reachable:
                for rates in (self, self.peak) if self.peak else (self,):
                    one = rates.compiled(tier, prompt, regional)
                    if one is None:
                        return None
                    options.append(one)
        if len(options) == 1:
            return options[0]
        if not options:
            return None
        common = lcm(*(one.denominator for one in options))
        best: dict[str, int] = {}
        printed: dict[str, str] = {}
        for one in options:
            scale = common // one.denominator
            for unit, numerator in one.numerators.items():
                if numerator * scale >= best.get(unit, -1):
                    best[unit], printed[unit] = numerator * scale, one.printed[unit]
        return Compiled(best, common, printed, any(one.long_context for one in options))

    def _compile(self, tier: str, above: int, regional: bool, uncharted: bool) -> Compiled | None:
        """`uncharted`: the prompt is over a threshold of the standard table for which this tier prints no table of its own."""
        if self.free:
            return Compiled(dict.fromkeys(PER, 0), 1, dict.fromkeys(PER, "0"))
        if uncharted and tier == "priority":
            return None
        flags = ("long_context_rate_unpublished",) if uncharted else ()
        units = self._tables[tier, above]
        uplift = fraction_of_usd(self.regional) if regional and self.regional else Fraction(1)
        exact: dict[str, Fraction] = {}
        for unit, amount in units.items():
            rate = fraction_of_usd(amount) * self.discount
            exact[unit] = rate * uplift if unit in BUCKETS else rate  # fees carry no uplift
        for unit, others in SAME_RATE_AS.items():
            if unit not in exact:
                same = next((exact[other] for other in others if other in exact), None)
                if same is not None:
                    exact[unit] = same
        nano = {unit: rate * NANO_PER_USD / PER.get(unit, PER_THOUSAND) for unit, rate in exact.items()}
        common = lcm(*(rate.denominator for rate in nano.values())) if nano else 1
        return Compiled(
            {unit: rate.numerator * (common // rate.denominator) for unit, rate in nano.items()},
            common,
            {unit: _decimal_text(rate) for unit, rate in exact.items()},
            above >= 0,
            flags,
        )


def _decimal_text(value: Fraction) -> str:
    """An exact rate as a decimal string; as a ratio where it has no finite decimal (never with list prices)."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = 0
    scaled = value
    while scaled.denominator != 1:
        scaled *= 10
        digits += 1
    whole = str(scaled.numerator).rjust(digits + 1, "0")
    return f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
