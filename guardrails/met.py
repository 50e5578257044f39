"""What a kind of call meets under one policy: its budgets with their running periods, its rate limits, and the asks made of them.

All of this depends only on the policy, on the few dimensions that its budgets and limits look at, and on the time until a period or a raise
ends. So it is worked out once, and a call adds its amounts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import cast

from msgspec.structs import replace

from billing.domain import keys
from billing.domain.dimensions import OTHER
from guardrails.domain.budgets import TAG_PREFIX, WORKSPACE_SCOPE, Budget, Match, Matcher, Unit
from guardrails.domain.periods import Bounds
from guardrails.domain.rates import WINDOW_US, Metric, RateLimit, RateMatch, matching
from guardrails.limiter.wire import NO_LIMIT, CounterAsk, RateAsk, packed
from guardrails.told import told_of

MOST_VALUES = 10_000
"""Values of one each-value budget that get a counter of their own in one period, and new values of one each-value rate limit in one window; later
ones share `__other__`."""
MOST_KNOWN = 4_096


class Met:
    """`asks` and `rate_asks` lack their amounts: a request has them beside `packed`, and `rates_for` fills them in."""

    __slots__ = (
        "asks",
        "binding",
        "bounds",
        "caps",
        "ends_ms",
        "hard_caps",
        "hard_used",
        "matches",
        "packed",
        "rate_asks",
        "rates",
        "starts_ms",
        "suffixes",
        "told",
    )

    def __init__(self, matches: list[Match], bounds: list[Bounds], rates: list[RateMatch], at_ms: int) -> None:
        self.matches, self.bounds, self.rates = matches, bounds, rates
        self.starts_ms = max((period.start_ms for period in bounds), default=0)
        raises = [raised.until_ms for match in matches for raised in match.budget.raises if raised.until_ms > at_ms]
        self.ends_ms = min((*(period.end_ms for period in bounds), *raises), default=1 << 62)
        if any(raised.until_ms <= at_ms for match in matches for raised in match.budget.raises):
            self.starts_ms = at_ms  # a raise that has ended: what holds now did not hold before
        self.asks = [
            (match.budget.unit, counter_ask(match, period, at_ms))
            for match, period in zip(matches, bounds, strict=True)
        ]
        self.packed = packed([ask for _, ask in self.asks])
        self.suffixes = [ask.suffix for _, ask in self.asks]
        self.rate_asks = [rate_ask(match) for match in rates]
        self.caps = [match.budget.cap_at(at_ms) for match in matches]
        hard_usd = [n for n, match in enumerate(matches) if match.budget.hard and match.budget.unit is Unit.USD]
        self.hard_caps = [self.caps[place] for place in hard_usd]
        self.hard_used = _those_at(hard_usd)
        """What is used of all -> what is used of these"""
        self.told = told_of(rates)
        self.binding = next(
            (match for match in matches if match.budget.hard and match.budget.unit is not Unit.CALLS), None
        )
        """A budget that no call without a bound may meet"""

    def rates_for(self, tokens_at_once: int) -> list[RateAsk]:
        return [replace(ask, cost=tokens_at_once) if ask.corrected else ask for ask in self.rate_asks]


class Meetings:
    """The meetings of one policy."""

    def __init__(
        self, matcher: Matcher, rates: Sequence[RateLimit], bounds_of: Callable[[Budget, int], Bounds]
    ) -> None:
        self._matcher, self._rates, self._bounds_of = matcher, rates, bounds_of
        looked_at = {*matcher.looks_at, *(rate.scope.by for rate in rates if rate.scope.by != WORKSPACE_SCOPE)}
        self._tags = tuple(by[len(TAG_PREFIX) :] for by in looked_at if by.startswith(TAG_PREFIX))
        self._dims = tuple(by for by in looked_at if not by.startswith(TAG_PREFIX))
        self._known: dict[tuple[str | bool | None, ...], Met] = {}

    def of(self, dims: Mapping[str, str], tags: Mapping[str, str], at_ms: int, *, lasting: bool = False) -> Met:
        """What a call with these dimensions and tags meets at a moment. A `lasting` one (a batch) does not count as running at the same time."""
        name: tuple[str | bool | None, ...] = (lasting, *map(dims.get, self._dims))
        if self._tags:
            name += tuple([tags.get(by) for by in self._tags])
        met = self._known.get(name)
        if met is None or not met.starts_ms <= at_ms < met.ends_ms:
            matches = self._matcher.matches(dims, tags)
            bounds = [self._bounds_of(match.budget, at_ms) for match in matches]
            rates = matching(self._rates, dims, tags)
            if lasting:
                rates = [match for match in rates if match.rate.metric is not Metric.CONCURRENCY]
            met = Met(matches, bounds, rates, at_ms)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[name] = met
        return met


def _those_at(places: list[int]) -> Callable[[list[int]], Sequence[int]]:
    if len(places) > 1:
        return cast("Callable[[list[int]], Sequence[int]]", itemgetter(*places))
    return lambda every: [every[place] for place in places]


def counter_ask(match: Match, bounds: Bounds, at_ms: int, *, overflows: bool = False) -> CounterAsk:
    """One budget's part of an admit, but for its amount. `overflows`: a new value has no counter of its own any more."""
    budget = match.budget
    limit, slow = budget.limit_at(at_ms), budget.throttle_from(at_ms)
    value = OTHER if match.value and overflows else match.value
    return CounterAsk(
        suffix=keys.counter_suffix(budget.id, bounds.start_ms, keys.value_digest(value) if value else ""),
        unit=budget.unit.counted_in,
        amount=0,
        limit=NO_LIMIT if limit is None else limit,
        start_ms=bounds.start_ms,
        end_ms=bounds.end_ms,
        throttle_at=NO_LIMIT if slow is None else slow,
        throttle_per_minute=budget.throttle_per_minute,
        cap=budget.cap_at(at_ms),
        label=value,
        most_values=MOST_VALUES if value and not overflows else 0,
    )


def rate_ask(match: RateMatch) -> RateAsk:
    """What is asked of one rate limit; of a limit on tokens, for one token."""
    rate = match.rate
    suffix = keys.rate_suffix(rate.id, rate.metric.value, keys.value_digest(match.value) if match.value else "")
    if rate.metric is Metric.CONCURRENCY:
        return RateAsk(suffix, "c", rate.limit)  # there are no more of these than calls under way
    ask = RateAsk(suffix, "g", rate.limit, WINDOW_US[rate.metric], rate.at_once)
    ask.corrected = 1 if rate.metric is Metric.TPM else 0
    ask.most_values = MOST_VALUES if match.value else 0
    return ask
