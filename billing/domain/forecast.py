"""Where a period's spend is heading: from daily sums to the period's end, with an 80% interval that is honest about young data.

A day is forecast as *level x weekday factor x growth*. Each part is robust: weekday factors are medians drawn towards 1 while there are few
weeks, the level is a recent weighted mean of days whose spikes are cut back, growth is Theil and Sen's median slope, shrunk and damped. A single
spike therefore moves the forecast little; spikes that keep coming are a habit and count. The interval adds three doubts: days scatter, the level
is only estimated, and levels drift, as far as this one's weeks have shown (a local level model with a prior).
Its coverage is measured by a backtest (tests/billing/domain/test_forecast.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise
from math import exp, log, sqrt
from statistics import fmean, median
from typing import Final

WINDOW_DAYS: Final = 56
"""History that is looked at: eight weeks. Callers need not hand in more."""
HALF_LIFE_DAYS: Final = 9.0
"""Of a day's weight in the level, where the level wanders no more than is usual."""
Z80: Final = 1.2816
"""The normal's 90th percentile: between its two tails lies 80%."""
DRIFT_A_DAY: Final = 0.035
"""How far a level wanders in a day among workspaces, relative to itself, before its own weeks speak."""
LEAST_DRIFT_A_DAY: Final = 0.02
MOST_DRIFT_A_DAY: Final = 0.2
USUAL_WEEKS: Final = 2.0
"""So many weeks of its own weigh as much as what is usual."""
OLDER_WEEKS_HALVE: Final = 2.0
"""After so many weeks a step between two of them counts half."""
SHORTEST: Final = 0.4
"""Of the half-life, for a level that wanders much: its last days say more."""
CAUTION: Final = 1.1
"""What the backtest showed the parts below to miss."""
SCATTER_TOGETHER: Final = 1.3
"""Neighbouring days scatter a little together."""
DAMPING: Final = 0.985
"""Share of today's growth left after each further day."""
USUAL_GROWTH_A_DAY: Final = 0.02
"""Standard deviation of growth among workspaces, before their own history speaks."""
MOST_GROWTH_A_DAY: Final = 0.05


class Maturity(StrEnum):
    """How much a forecast rests on."""

    NONE = "none"
    """Nothing was spent yet: no forecast."""
    GUESS = "guess"
    """Fewer than three whole days: today's pace, at most."""
    ROUGH = "rough"
    """Less than two weeks: weekdays cannot be told apart yet."""
    FAIR = "fair"


@dataclass(frozen=True, slots=True)
class Ahead:
    """The period's cumulative spend at the end of a coming day, in nano-USD."""

    day: date
    expected_nano: int
    low_nano: int
    high_nano: int


@dataclass(frozen=True, slots=True)
class Reach:
    """When a line is crossed. `earliest` and `latest` are the interval's; None: not within the period."""

    expected: date | None
    earliest: date | None
    latest: date | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A period's end as seen from `today`. Amounts in nano-USD; the interval holds the end with 80% probability."""

    first: date
    last: date
    today: date
    spent_nano: int
    expected_nano: int
    low_nano: int
    high_nano: int
    maturity: Maturity
    history_days: int
    """Whole days it rests on."""
    path: tuple[Ahead, ...]
    """Today's end and each later day's, to the period's last."""

    def crossing(self, line_nano: int) -> Reach:
        """On which day the period's spend crosses a line. A line that is crossed already was crossed today or before: `today`."""
        if self.spent_nano >= line_nano:
            return Reach(self.today, self.today, self.today)
        return Reach(
            expected=next((ahead.day for ahead in self.path if ahead.expected_nano >= line_nano), None),
            earliest=next((ahead.day for ahead in self.path if ahead.high_nano >= line_nano), None),
            latest=next((ahead.day for ahead in self.path if ahead.low_nano >= line_nano), None),
        )


def forecast(daily_nano: Mapping[date, int], *, first: date, last: date, today: date, elapsed: float) -> Forecast:
    """The spend of the days `first` to `last` (both included), seen when `elapsed` (0 to 1) of `today` is over.

    `daily_nano`: spend a day in the same calendar, today's included as far as it goes; days left out spent nothing. Days before the first
    spend are no history. Give the `WINDOW_DAYS` before today as well as the period's own. Raises ValueError when today is not in the period.
    """
    if not first <= today <= last:
        raise ValueError(f"today ({today}) must be between {first} and {last}")
    elapsed = min(1.0, max(0.0, elapsed))
    spent = sum(amount for day, amount in daily_nano.items() if first <= day <= today)
    whole = _whole_days(daily_nano, today)
    habit = _habit(whole, today, daily_nano.get(today, 0), elapsed)
    coming = [today + timedelta(days=n) for n in range((last - today).days + 1)]
    path = _path(habit, coming, spent, elapsed)
    return Forecast(
        first=first,
        last=last,
        today=today,
        spent_nano=spent,
        expected_nano=path[-1].expected_nano,
        low_nano=path[-1].low_nano,
        high_nano=path[-1].high_nano,
        maturity=_maturity(len(whole), habit.level),
        history_days=len(whole),
        path=tuple(path),
    )


# --- What a day is like -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Habit:
    """A usual day. Amounts in nano, as floats: they are estimates."""

    level: float
    factors: tuple[float, ...]
    """By weekday, Monday first."""
    growth: float
    """Of the level, a day, as a logarithm."""
    growth_doubt: float
    """Standard deviation of the growth."""
    scatter: float
    """Standard deviation of a day of factor 1."""
    doubt: float
    """Standard deviation of the level, relative to it."""
    drift: float = DRIFT_A_DAY
    """How far the level wanders in a day, relative to itself."""


def _whole_days(daily: Mapping[date, int], today: date) -> list[tuple[date, int]]:
    """The days that are over, from the first that spent something. That one began somewhere in its middle: with others there, it is left out."""
    spending = [day for day, amount in daily.items() if amount > 0 and day < today]
    if not spending:
        return []
    start = max(min(spending), today - timedelta(days=WINDOW_DAYS))
    if start == min(spending) and (today - start).days > 3:
        start += timedelta(days=1)
    return [
        (day, max(0, daily.get(day, 0))) for day in (start + timedelta(days=n) for n in range((today - start).days))
    ]


def _maturity(days: int, level: float) -> Maturity:
    if not level:
        return Maturity.NONE
    if days < 3:
        return Maturity.GUESS
    return Maturity.ROUGH if days < 14 else Maturity.FAIR


def _habit(whole: Sequence[tuple[date, int]], today: date, spent_today: int, elapsed: float) -> _Habit:
    flat = (1.0,) * 7
    if not whole:
        # A pace over an hour or less says little: at least a quarter of a day is assumed to have made it.
        level = spent_today / max(elapsed, 0.25)
        return _Habit(level, flat, 0.0, USUAL_GROWTH_A_DAY, level, 1.0)
    factors = _factors(whole)
    shape = [factors[day.weekday()] for day, _ in whole]
    ceiling = _ceiling([amount for _, amount in whole], shape)
    cut = [min(float(amount), ceiling * max(f, 0.25)) for (_, amount), f in zip(whole, shape, strict=True)]
    slope = _slope(cut, shape)
    drift = _drift([c / f if f > 0.25 else None for c, f in zip(cut, shape, strict=True)], slope.a_day)
    growth, growth_doubt = _growth(slope, drift)
    half_life = HALF_LIFE_DAYS * min(1.0, max(SHORTEST, DRIFT_A_DAY / drift))
    weights = [0.5 ** ((today - day).days / half_life) for day, _ in whole]
    # Older days are lifted by the growth since, so that the level is today's.
    lifted = [c * exp(growth * (len(cut) - n)) for n, c in enumerate(cut)]
    base = sum(w * f for w, f in zip(weights, shape, strict=True))
    level = sum(w * c for w, c in zip(weights, lifted, strict=True)) / base if base else 0.0
    excess = [float(amount) - c for (_, amount), c in zip(whole, cut, strict=True)]
    spikes = sum(e > 0 for e in excess)
    recurring = max(0.0, (spikes - 2) / spikes) if spikes else 0.0
    level += recurring * fmean(excess)
    residuals = [c - level * f for c, f in zip(lifted, shape, strict=True)]
    variance = sum(w * r * r for w, r in zip(weights, residuals, strict=True)) / sum(weights)
    variance += max(recurring, 0.5) * fmean([e * e for e in excess])
    effective = sum(weights) ** 2 / sum(w * w for w in weights)
    scatter = sqrt(variance * (1 + 1.5 / effective))
    gain = 1 - 0.5 ** (1 / half_life)
    # How far such a mean runs behind a level that wanders (the steady state of exponential smoothing).
    behind = drift**2 * (1 - gain) ** 2 / (2 * gain - gain**2)
    doubt = sqrt((scatter / level) ** 2 * 1.5 / effective + 0.5 / len(whole) ** 2 + behind) if level else 1.0
    return _Habit(level, factors, growth, growth_doubt, scatter, doubt, drift)


def _factors(whole: Sequence[tuple[date, int]]) -> tuple[float, ...]:
    if len(whole) < 14:
        return (1.0,) * 7
    by_weekday: list[list[int]] = [[] for _ in range(7)]
    for day, amount in whole:
        by_weekday[day.weekday()].append(amount)
    middles = [float(median(amounts)) for amounts in by_weekday]
    mean = fmean(middles)
    if not mean:
        return (1.0,) * 7
    drawn = [(len(a) * m / mean + 1) / (len(a) + 1) for a, m in zip(by_weekday, middles, strict=True)]
    total = fmean(drawn)
    return tuple(f / total for f in drawn)


def _ceiling(amounts: Sequence[int], shape: Sequence[float]) -> float:
    """Above this a day of factor 1 is a spike. Three times the middle, or four times the scatter above it, whichever is more."""
    plain = [amount / f for amount, f in zip(amounts, shape, strict=True) if f > 0.25]
    spending = [value for value in plain if value > 0] or [1.0]
    middle = median(spending)
    spread = 1.4826 * median(abs(value - middle) for value in spending)
    return max(3 * middle, middle + 4 * spread)


@dataclass(frozen=True, slots=True)
class _Slope:
    """What the last four weeks say (Theil and Sen), as logarithms."""

    a_day: float
    noise: float
    days: int


def _slope(cut: Sequence[float], shape: Sequence[float]) -> _Slope:
    recent = [(n, log(c / f)) for n, (c, f) in enumerate(zip(cut, shape, strict=True)) if c > 0 and f > 0.25][-28:]
    slopes = [(b - a) / (j - i) for k, (i, a) in enumerate(recent) for j, b in recent[k + 1 :] if j - i >= 4]
    if len(recent) < 6 or not slopes:
        return _Slope(0.0, 0.0, 0)
    slope = median(slopes)
    rest = [value - slope * n for n, value in recent]
    middle = median(rest)
    return _Slope(slope, 1.4826 * median(abs(value - middle) for value in rest), len(recent))


def _growth(slope: _Slope, drift: float) -> tuple[float, float]:
    """Growth a day and its standard deviation: the slope, weighed against none being usual. A level that wanders looks like a slope, too: over n
    days with a variance of 1.2 / n of a day's step."""
    if not slope.days:
        return 0.0, USUAL_GROWTH_A_DAY
    by_chance = (slope.noise * 1.2) ** 2 * 12 / slope.days**3
    error = max(0.001, sqrt(by_chance + 1.2 * drift**2 / slope.days))
    trust = USUAL_GROWTH_A_DAY**2 / (USUAL_GROWTH_A_DAY**2 + error**2)
    return max(-MOST_GROWTH_A_DAY, min(MOST_GROWTH_A_DAY, slope.a_day * trust)), error * sqrt(trust)


def _drift(plain: Sequence[float | None], growth: float) -> float:
    """How far the level wanders in a day: what its weeks differ by beyond growth and chance, weighed against what is usual.

    `plain`: days of factor 1. Of a level that takes a random step a day with variance q, the means of two neighbouring weeks differ with variance
    (2 * 49 + 1) / 21 * q, to which the scatter of their days adds.
    """
    weeks = []
    for end in range(len(plain), 6, -7):
        days = [value for value in plain[end - 7 : end] if value is not None]
        mean = fmean(days) if days else 0.0
        if mean <= 0:
            break
        weeks.append((mean, fmean([(value / mean - 1) ** 2 for value in days]) / max(1, len(days) - 1)))
    found, weight = USUAL_WEEKS * DRIFT_A_DAY**2, USUAL_WEEKS
    for n, ((new, new_noise), (old, old_noise)) in enumerate(pairwise(weeks)):
        step = (log(new / old) - 7 * growth) ** 2 - new_noise - old_noise
        found += 0.5 ** (n / OLDER_WEEKS_HALVE) * max(-(DRIFT_A_DAY**2), step * 21 / 99)
        weight += 0.5 ** (n / OLDER_WEEKS_HALVE)
    return min(MOST_DRIFT_A_DAY, max(LEAST_DRIFT_A_DAY, sqrt(max(0.0, found / weight))))


# --- From here to the end ---------------------------------------------------------------------------------------------
def _path(habit: _Habit, coming: Sequence[date], spent: int, elapsed: float) -> list[Ahead]:
    path, ahead, scatter = [], 0.0, 0.0
    for n, day in enumerate(coming):
        share = (1.0 - elapsed) if n == 0 else 1.0
        factor = habit.factors[day.weekday()] * exp(habit.growth * _damped(n))
        ahead += habit.level * factor * share
        scatter += (habit.scatter * max(factor, 0.25)) ** 2 * share
        doubt = habit.doubt**2 + habit.drift**2 * (n + 1) / 3 + (habit.growth_doubt * (n + 1) / 2) ** 2
        spread = CAUTION * sqrt(SCATTER_TOGETHER * scatter + ahead * ahead * doubt)
        low, high = _interval(ahead, spread)
        path.append(Ahead(day, spent + round(ahead), spent + int(low), spent + round(high)))
    return path


def _damped(days: int) -> float:
    """1 + d + d^2 ...: what growth still adds up to after so many days."""
    return DAMPING * (1 - DAMPING**days) / (1 - DAMPING) if days > 0 else 0.0


def _interval(middle: float, spread: float) -> tuple[float, float]:
    """80% around a middle that cannot be negative and errs further upwards than downwards."""
    if middle <= 0:
        return 0.0, Z80 * spread
    width = Z80 * sqrt(log(1 + (spread / middle) ** 2))
    return middle * exp(-width), middle * exp(width)
