"""Our price table against a second opinion: litellm's price JSON, unit by unit. For a command that people and CI run; never at run time.

A difference is somebody's mistake or a deliberate decision. Decisions stand in `drift.json` with their reasons; the others fail the check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from billing.domain.pricing import PriceBook, Rates
from billing.domain.rates import PER_MILLION, STANDARD
from billing.prices.convert import LITELLM_TIERS, LITELLM_UNITS, PROVIDERS, Source

ALLOWED = Path(__file__).parent / "drift.json"
MODES = frozenset({"chat", "completion", "responses", "embedding"})
"""What both price by the token. Pictures, speech and reranking are priced in units that litellm names in too many ways to compare."""
_FIELD = re.compile(rf"({'|'.join(LITELLM_UNITS)})(?:_above_(\d+)k_tokens)?({'|'.join(LITELLM_TIERS.values())})?")
_TIERS = {"": STANDARD, **{suffix: tier for tier, suffix in LITELLM_TIERS.items()}}
WRITES = {"cache_write_5m": "cache_write_30m", "cache_write_1h": "cache_write_12h"}
"""The second opinion has one name for what providers keep for different times."""


class Unreadable(Exception):
    """The file is not litellm's price list, or the allow-list is broken. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One rate, in dollars per million tokens. `ours` is empty where we have none."""

    provider: str
    model: str
    tier: str
    above: int
    """Tokens of the prompt beyond which the rate holds; 0: from the beginning."""
    unit: str
    ours: str
    theirs: str
    reason: str = ""
    """Why it is as it is; empty: nobody has explained it."""

    def __str__(self) -> str:
        where = f" above {self.above:,} tokens" if self.above else ""
        said = f" ({self.reason})" if self.reason else ""
        return f"{self.provider}/{self.model} {self.tier} {self.unit}{where}: ours {self.ours or 'none'}, theirs {self.theirs}{said}"


@dataclass(frozen=True, slots=True)
class Compared:
    rates: int
    """Rates that both state."""
    differences: tuple[Difference, ...]
    unused: tuple[str, ...]
    """Rules of the allow-list that explain nothing any more."""

    @property
    def unexplained(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.reason]


@dataclass(frozen=True)
class Rule:
    """One decision. Every pattern is a whole-match regular expression; a difference must pass all of them."""

    reason: str
    provider: str = ".*"
    model: str = ".*"
    tier: str = ".*"
    unit: str = ".*"
    above: bool | None = None
    ratio: str = ""
    """Ours over theirs, exactly: a decision about a factor explains no other difference."""
    rates: tuple[str, ...] = ()
    """Differences word for word, as the check prints them: when either side moves, it asks again."""

    @cached_property
    def _patterns(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        names = ("provider", "model", "tier", "unit")
        return tuple((name, re.compile(getattr(self, name))) for name in names if getattr(self, name) != ".*")

    def explains(self, found: Difference) -> bool:
        if self.above is not None and self.above != (found.above > 0):
            return False
        if self.rates and str(found) not in self.rates:
            return False
        if self.ratio and (not found.ours or Fraction(found.ours) != Fraction(self.ratio) * Fraction(found.theirs)):
            return False
        return all(pattern.fullmatch(getattr(found, name)) for name, pattern in self._patterns)


def compare(book: PriceBook, listed: Mapping[str, Any], rules: Sequence[Rule], at: datetime) -> Compared:
    """Every token rate that the second opinion states for a provider of ours."""
    compared, found = 0, []
    used: set[int] = set()
    for provider, model, row in _rows(listed):
        rates = book.rates(provider, model, at)
        for tier, above, unit, theirs in _stated(row):
            compared += 1
            ours = _ours(rates, tier, above, unit)
            if _fraction(theirs) in (ours, _ours(rates and rates.peak, tier, above, unit)):
                continue  # where a price depends on the hour, theirs is the dearer one
            difference = Difference(provider, model, tier, above, unit, _shown(ours), _shown(_fraction(theirs)))
            number = next((n for n, rule in enumerate(rules) if rule.explains(difference)), None)
            if number is not None:
                used.add(number)
                difference = replace(difference, reason=rules[number].reason)
            found.append(difference)
    unused = tuple(rule.reason for number, rule in enumerate(rules) if number not in used)
    return Compared(compared, tuple(sorted(set(found), key=str)), unused)


def read_list(path: Path) -> Mapping[str, Any]:
    """litellm's JSON. Raises Unreadable."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {error}") from error
    if not isinstance(listed, dict) or not any(
        isinstance(row, dict) and "litellm_provider" in row for row in listed.values()
    ):
        raise Unreadable(f"{path} is not litellm's price list")
    return listed


def read_rules(path: Path = ALLOWED) -> list[Rule]:
    """The decisions. Raises Unreadable."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))["allow"]
        rules = [Rule(**{**rule, "rates": tuple(rule.get("rates", ()))}) for rule in written]
        for rule in rules:
            if not rule.reason.strip():
                raise ValueError("a rule without a reason")
            rule._patterns  # noqa: B018 - compiles them, so that a broken one is told now
    except (OSError, ValueError, TypeError, KeyError, re.error) as error:
        raise Unreadable(f"{path}: {error}") from error
    return rules


def _rows(listed: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    owners = {theirs: ours for ours, (_, all_theirs) in PROVIDERS.items() for theirs in all_theirs}
    for name, row in listed.items():
        if isinstance(row, Mapping) and row.get("litellm_provider") in owners and row.get("mode") in MODES:
            yield owners[row["litellm_provider"]], Source._bare(name).lower(), row


def _stated(row: Mapping[str, Any]) -> Iterable[tuple[str, int, str, Any]]:
    """(tier, threshold or 0, our unit, dollars a token) of every rate that is stated and not zero."""
    for key, value in row.items():
        hit = _FIELD.fullmatch(key)
        if hit and value and isinstance(value, int | Decimal | float | str) and not isinstance(value, bool):
            yield _TIERS[hit[3] or ""], int(hit[2] or 0) * 1000, LITELLM_UNITS[hit[1]], value


def _ours(rates: Rates | None, tier: str, above: int, unit: str) -> Fraction | None:
    compiled = rates.compiled(tier, above + 1 if above else 1) if rates is not None else None
    if compiled is None:
        return None
    for name in (unit, WRITES.get(unit, unit)):
        if name in compiled.numerators:
            return Fraction(compiled.numerators[name], compiled.denominator) * PER_MILLION / 10**9
    return None


def _fraction(value: Any) -> Fraction | None:
    """Dollars a token -> dollars per million. Their floats carry noise in the last digits: twelve significant ones are meant."""
    try:
        return Fraction(f"{Decimal(str(value)) * PER_MILLION:.12g}")
    except (InvalidOperation, ValueError):
        return None


def _shown(rate: Fraction | None) -> str:
    return "" if rate is None else f"{Decimal(rate.numerator) / Decimal(rate.denominator):.12g}"
