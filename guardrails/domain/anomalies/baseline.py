"""The habit of one series by the hour of the week: medians, so that no single odd day moves it. Pure.

An hour is compared with the same hour (and its neighbours) of the days of its kind in the last week and of its own weekday in the last four
weeks, the older weeks scaled to today's level. What the weekday alone does at that hour counts where it is more: a launch every Thursday and
a job every Sunday are habits, although most days know nothing of them. The spread is the median absolute deviation, never less than what
chance alone does to so few calls.

Hours are whole numbers on the workspace's own clock: hours since 1970-01-01 00:00, wall time (that day was a Thursday).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import Final

DAY: Final = 24
WEEK: Final = 168
WEEKS: Final = 4
YOUNG: Final = 3 * DAY
"""A series younger than this has no habit yet."""
MAD_TO_SIGMA: Final = 1.4826
LEAST_SPREAD: Final = 0.2
"""Of the level: traffic of people is never steadier."""
MOST_TREND: Final = 4.0
PRICE_WINDOW: Final = 14 * DAY
LEAST_CALLS: Final = 3
"""Calls of an hour whose mean cost says something."""
_NEIGHBOURS: Final = (-1, 0, 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a series did in an hour."""

    calls: int = 0
    attempts: int = 0
    errors: int = 0
    cost_nano: int = 0


NOTHING: Final = Cell()


@dataclass(frozen=True, slots=True)
class Level:
    """What is usual: the middle, and a robust standard deviation around it."""

    middle: float
    spread: float


def slot_of(hour: int) -> int:
    """The hour of the week, 0 for Monday midnight."""
    return (hour + 3 * DAY) % WEEK


def is_weekend(hour: int) -> bool:
    return slot_of(hour) >= 5 * DAY


@dataclass(slots=True)
class History:
    """The hours of one series; hours without a cell had no calls. `since`: the first hour that is known at all (of the workspace)."""

    cells: Mapping[int, Cell]
    since: int
    _days: dict[int, int] = field(default_factory=dict)
    _trends: dict[int, tuple[float, ...]] = field(default_factory=dict)
    _prices: dict[int, Level | None] = field(default_factory=dict)
    _bursts: dict[int, float] = field(default_factory=dict)
    born: int = 0
    """Its own first hour."""

    def __post_init__(self) -> None:
        self.born = min(self.cells, default=self.since)
        for hour, cell in self.cells.items():
            self._days[hour // DAY] = self._days.get(hour // DAY, 0) + cell.cost_nano

    def at(self, hour: int) -> Cell:
        return self.cells.get(hour, NOTHING)

    def is_young(self, hour: int) -> bool:
        return hour - self.born < YOUNG

    def cost(self, hour: int) -> Level | None:
        """What is usual for the hour, in nano-USD. None for a series that is too young."""
        if self.is_young(hour):
            return None
        pool = self._comparable(hour)
        if len(pool) < 3:
            return None
        middle = max(median(pool), self._weekday_s_own(hour))
        deviation = MAD_TO_SIGMA * median([abs(value - middle) for value in pool])
        price = self.price(hour)
        each = price.middle if price else 0.0
        spread = max(deviation, LEAST_SPREAD * middle, sqrt(2 * middle * each), each)
        if sum(1 for value in pool if value == 0) * 2 > len(pool):
            spread = max(spread, self._usual_burst(hour) / 4)
        return Level(middle, spread)

    def calls(self, hour: int) -> float:
        """The usual number of calls in the hour."""
        level, price = self.cost(hour), self.price(hour)
        return level.middle / price.middle if level and price and price.middle else 0.0

    def price(self, hour: int) -> Level | None:
        """What a call usually costs: over the last two weeks, whatever the hour (prices have no season). None where too little is known."""
        day = hour // DAY
        if day not in self._prices:
            self._prices[day] = self._price(day * DAY)
        return self._prices[day]

    def price_then(self, hour: int) -> float:
        """What a call costs at this hour of the week, in nano-USD, the median of the last weeks; 0 where unknown. At other hours others may call."""
        cells = [self.at(hour - week * WEEK + beside) for week in range(1, WEEKS + 1) for beside in _NEIGHBOURS]
        seen = [cell.cost_nano / cell.calls for cell in cells if cell.calls >= LEAST_CALLS]
        return median(seen) if len(seen) >= 2 else 0.0

    def busy_attempts(self, hour: int) -> float:
        """The attempts of a busy one (of ten) among comparable hours: what a series may well do at this time of the week."""
        pool = sorted(self.at(at).attempts for at, _ in self._like(hour))
        return float(pool[int(len(pool) * 0.9)]) if pool else 0.0

    def error_share(self, hour: int) -> float:
        """The share of attempts that usually fails, as the median of the last days."""
        shares = []
        for day in range(1, 15):
            cells = [self.at(at) for at in range(hour - day * DAY, hour - (day - 1) * DAY)]
            attempts = sum(cell.attempts for cell in cells)
            if attempts >= 20:
                shares.append(sum(cell.errors for cell in cells) / attempts)
        return median(shares) if shares else 0.0

    def _price(self, until: int) -> Level | None:
        seen = [
            cell.cost_nano / cell.calls
            for hour in range(max(until - PRICE_WINDOW, self.born), until)
            if (cell := self.cells.get(hour)) is not None and cell.calls >= LEAST_CALLS
        ]
        if len(seen) < 6:
            seen = [cell.cost_nano / cell.calls for hour, cell in self.cells.items() if cell.calls and hour < until]
        if len(seen) < 6:
            return None
        middle = median(seen)
        return Level(middle, MAD_TO_SIGMA * median([abs(value - middle) for value in seen]))

    def _weekday_s_own(self, hour: int) -> float:
        """The middle of this hour on the same weekday of the last weeks, with its neighbours or alone, whichever is more; 0 where it is not known.
        Alone, because the neighbours of a job's first hour are silent; two weeks at least, because once is no habit."""
        trends = self._trend(hour // DAY)
        weeks = [week for week in range(1, WEEKS + 1) if self.born <= hour - week * WEEK]
        if len(weeks) < 2:
            return 0.0
        alone = [self.at(hour - week * WEEK).cost_nano * trends[week - 1] for week in weeks]
        beside = [self.at(hour - week * WEEK + at).cost_nano * trends[week - 1] for week in weeks for at in _NEIGHBOURS]
        return max(median(alone), median(beside))

    def _comparable(self, hour: int) -> list[float]:
        """The costs of comparable hours, at today's level."""
        trends = self._trend(hour // DAY)
        pool = [self.at(at).cost_nano * trends[(back - 1) // 7] for at, back in self._like(hour)]
        if len(pool) < 6:  # a young series: every hour there is
            pool = [float(self.at(at).cost_nano) for at in range(max(self.born, hour - WEEK), hour)]
        return pool

    def _like(self, hour: int) -> Iterator[tuple[int, int]]:
        """(hour, days back) of the hours that an hour is compared with."""
        for back in range(1, WEEKS * 7 + 1):
            same_weekday = back % 7 == 0
            like = back <= 7 and is_weekend(hour - back * DAY) == is_weekend(hour)
            if not (same_weekday or like):
                continue
            for beside in _NEIGHBOURS:
                at = hour - back * DAY + beside
                if self.born <= at < hour:
                    yield at, back

    def _trend(self, day: int) -> tuple[float, ...]:
        """By what the weeks before last are multiplied to be at the last one's level: the latest first."""
        if day not in self._trends:
            levels = [self._week_level(day, week) for week in range(WEEKS)]
            first = levels[0]
            self._trends[day] = tuple(
                min(max(first / level, 1 / MOST_TREND), MOST_TREND) if first > 0 and level > 0 else 1.0
                for level in levels
            )
        return self._trends[day]

    def _week_level(self, day: int, week: int) -> float:
        days = range(day - 7 * (week + 1), day - 7 * week)
        known = [self._days.get(one, 0) for one in days if one >= self.born // DAY]
        return float(median(known)) if known else 0.0

    def _usual_burst(self, hour: int) -> float:
        """Of a series that is silent most of the time: what its busier hours of the last two weeks cost."""
        until = hour // DAY * DAY
        if until not in self._bursts:
            busy = sorted(self.at(at).cost_nano for at in range(max(self.born, until - PRICE_WINDOW), until))
            self._bursts[until] = float(busy[int(len(busy) * 0.99) - 1]) if busy else 0.0
        return self._bursts[until]


def mixes(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> tuple[float, float, str]:
    """How much dearer a call became, and how much of that is because other models are called: nano-USD a call each, and the model that gained.

    `before` and `now`: model -> (calls, cost in nano-USD). A model's price is the one it had before, or has now when it is new.
    """
    calls_before, calls_now = (sum(calls for calls, _ in one.values()) for one in (before, now))
    if not calls_before or not calls_now:
        return 0.0, 0.0, ""
    mean_before = sum(cost for _, cost in before.values()) / calls_before
    mean_now = sum(cost for _, cost in now.values()) / calls_now
    by_mix, gained, most = 0.0, "", 0.0
    for model in before.keys() | now.keys():
        (was, was_cost), (is_, is_cost) = before.get(model, (0, 0)), now.get(model, (0, 0))
        price = was_cost / was if was else is_cost / is_
        change = is_ / calls_now - was / calls_before
        by_mix += change * price
        if change * price > most:
            gained, most = model, change * price
    return mean_now - mean_before, by_mix, gained
