"""The forecast: what it says on plain histories, and how often its 80% interval holds on histories of many kinds."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from math import exp
from statistics import median

import pytest

from billing.domain.forecast import Forecast, Maturity, forecast

USD = 1_000_000_000
JUNE = date(2026, 6, 1)
END = date(2026, 6, 30)


def days(first: date, amounts: list[float]) -> dict[date, int]:
    return {first + timedelta(days=n): round(amount * USD) for n, amount in enumerate(amounts)}


def at(history: dict[date, int], today: date, elapsed: float = 0.0, last: date = END) -> Forecast:
    return forecast(history, first=today.replace(day=1), last=last, today=today, elapsed=elapsed)


def test_a_steady_spend_ends_where_it_was_going() -> None:
    steady = days(date(2026, 4, 20), [50.0] * 56)  # to June 14
    seen = at(steady, date(2026, 6, 15))
    assert seen.spent_nano == 14 * 50 * USD
    assert abs(seen.expected_nano - 1500 * USD) < 5 * USD
    assert seen.low_nano <= seen.expected_nano <= seen.high_nano
    assert seen.maturity is Maturity.FAIR


def test_it_says_on_which_day_a_line_is_crossed_and_when_it_is_not() -> None:
    steady = days(date(2026, 4, 20), [80.0] * 52)  # to June 10
    seen = at(steady, date(2026, 6, 11))
    reach = seen.crossing(1500 * USD)
    assert reach.expected == date(2026, 6, 19)  # 18 days of $80 are $1,440, nineteen $1,520
    assert reach.earliest is not None
    assert reach.earliest <= reach.expected
    assert seen.crossing(5000 * USD).expected is None
    assert seen.crossing(100 * USD).expected == seen.today


def test_it_knows_weekdays() -> None:
    def amount(day: date) -> float:
        return 100.0 if day.weekday() < 5 else 4.0

    start = date(2026, 4, 20)
    history = {start + timedelta(days=n): round(amount(start + timedelta(days=n)) * USD) for n in range(54)}
    friday = at(history, date(2026, 6, 13), last=date(2026, 6, 14))  # Saturday and Sunday remain
    assert friday.expected_nano - friday.spent_nano < 40 * USD
    monday = at({d: v for d, v in history.items() if d < date(2026, 6, 8)}, date(2026, 6, 8), last=date(2026, 6, 12))
    assert abs(monday.expected_nano - monday.spent_nano - 500 * USD) < 60 * USD


def test_one_spike_hardly_moves_it() -> None:
    calm = [20.0] * 50
    spiked = [*calm[:40], 2000.0, *calm[41:]]
    start = date(2026, 4, 20)
    without, with_spike = (at(days(start, amounts), date(2026, 6, 9)) for amounts in (calm, spiked))
    ahead = without.expected_nano - without.spent_nano
    assert with_spike.expected_nano - with_spike.spent_nano < 1.35 * ahead
    assert with_spike.high_nano > without.high_nano


def test_spikes_that_keep_coming_count() -> None:
    amounts = [200.0 if n % 7 == 3 else 20.0 for n in range(50)]
    seen = at(days(date(2026, 4, 20), amounts), date(2026, 6, 9))
    mean = sum(amounts) / len(amounts)
    assert (seen.expected_nano - seen.spent_nano) / USD > 0.75 * mean * 22


def test_growth_carries_on_for_a_while() -> None:
    growing = [20.0 * exp(0.02 * n) for n in range(50)]
    seen = at(days(date(2026, 4, 20), growing), date(2026, 6, 9))
    pace = growing[-1] * 22
    assert (seen.expected_nano - seen.spent_nano) / USD > 1.05 * pace


def test_young_data_says_so_and_gives_a_wide_interval() -> None:
    young = at({date(2026, 6, 3): 5 * USD}, date(2026, 6, 3), elapsed=0.5)
    assert young.maturity is Maturity.GUESS
    assert young.high_nano > 2 * young.expected_nano
    rough = at(days(date(2026, 6, 1), [5, 6, 5, 6, 5]), date(2026, 6, 6))
    fair = at(days(date(2026, 4, 20), [5, 6] * 23), date(2026, 6, 5))
    assert rough.maturity is Maturity.ROUGH
    relative = [(seen.high_nano - seen.low_nano) / (seen.expected_nano - seen.spent_nano) for seen in (rough, fair)]
    assert relative[0] > 1.5 * relative[1]


def test_nothing_spent_is_no_forecast_and_no_error() -> None:
    nothing = at({}, date(2026, 6, 3), elapsed=0.2)
    assert (nothing.maturity, nothing.expected_nano, nothing.high_nano) == (Maturity.NONE, 0, 0)


def test_the_last_minute_of_a_period_is_certain() -> None:
    steady = days(date(2026, 4, 20), [50.0] * 72)
    seen = at(steady, END, elapsed=1.0)
    assert seen.spent_nano == seen.expected_nano == seen.low_nano == seen.high_nano == 1500 * USD


def test_today_outside_the_period_is_a_mistake() -> None:
    with pytest.raises(ValueError):
        forecast({}, first=JUNE, last=END, today=date(2026, 7, 1), elapsed=0.0)


# --- Backtest ---------------------------------------------------------------------------------------------------------
Shape = Callable[[random.Random], Callable[[int, date], float]]


def _steady(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: 40 * draw.lognormvariate(0, 0.25)


def _office(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: (60 if day.weekday() < 5 else 12) * draw.lognormvariate(0, 0.3)


def _growing(draw: random.Random) -> Callable[[int, date], float]:
    rate = draw.uniform(0.0, 0.02)
    return lambda n, day: 15 * exp(rate * n) * (1 if day.weekday() < 5 else 0.5) * draw.lognormvariate(0, 0.25)


def _spiky(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: 30 * draw.lognormvariate(0, 0.3) * (draw.uniform(3, 8) if draw.random() < 0.06 else 1)


def _bursty(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: draw.lognormvariate(3, 1.0) if draw.random() < 0.6 else 0.0


def _wandering(draw: random.Random) -> Callable[[int, date], float]:
    level = [30.0]

    def amount(n: int, day: date) -> float:
        level[0] *= draw.lognormvariate(0, 0.05)
        return level[0] * (1 if day.weekday() < 5 else 0.6) * draw.lognormvariate(0, 0.2)

    return amount


SHAPES: dict[str, Shape] = {
    "steady": _steady, "office": _office, "growing": _growing, "spiky": _spiky, "bursty": _bursty, "wandering": _wandering,
}  # fmt: skip


# Of another hand: launches, levels that change for good, holidays, tails without end. Nobody can know of a change that comes after the look.
def _launches(draw: random.Random) -> Callable[[int, date], float]:
    on, times = draw.randrange(5), draw.uniform(1.5, 4)

    def amount(n: int, day: date) -> float:
        return (
            30
            * draw.lognormvariate(0, 0.2)
            * (1 + times * (day.weekday() == on) + times / 3 * (day.weekday() == on + 1))
        )

    return amount


def _ramp(draw: random.Random) -> Callable[[int, date], float]:
    middle, width = draw.randint(10, 70), draw.uniform(3, 8)
    return lambda n, day: (10 + 60 / (1 + exp((middle - n) / width))) * (1 if day.weekday() < 5 else 0.4) * draw.lognormvariate(0, 0.2)  # fmt: skip


def _step(draw: random.Random) -> Callable[[int, date], float]:
    at_day, times = draw.randint(8, 70), draw.choice((0.4, 0.6, 1.8, 2.5))
    return lambda n, day: 40 * (times if n >= at_day else 1) * (1 if day.weekday() < 5 else 0.7) * draw.lognormvariate(0, 0.2)  # fmt: skip


def _pareto(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: 12 * draw.paretovariate(2.2)


def _closed_at_weekends(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: 50 * draw.gammavariate(8, 1 / 8) if day.weekday() < 5 else 0.0


def _holiday(draw: random.Random) -> Callable[[int, date], float]:
    first, length = draw.randint(5, 60), draw.randint(3, 9)
    away = range(first, first + length)
    return lambda n, day: 50 * (0.15 if n in away else 1) * (1 if day.weekday() < 5 else 0.2) * draw.lognormvariate(0, 0.2)  # fmt: skip


def _decaying(draw: random.Random) -> Callable[[int, date], float]:
    rate = draw.uniform(0.005, 0.03)
    return lambda n, day: 200 * exp(-rate * n) * draw.lognormvariate(0, 0.25)


OTHER_SHAPES: dict[str, Shape] = {
    "launches": _launches, "ramp": _ramp, "step": _step, "pareto": _pareto, "closed at weekends": _closed_at_weekends,
    "holiday": _holiday, "decaying": _decaying,
}  # fmt: skip


# Held out: written after the model was settled, and never used to settle it.
def _regimes(draw: random.Random) -> Callable[[int, date], float]:
    busy = [draw.random() < 0.5]

    def amount(n: int, day: date) -> float:
        if draw.random() < 0.08:
            busy[0] = not busy[0]
        return (55 if busy[0] else 20) * (1 if day.weekday() < 5 else 0.5) * draw.lognormvariate(0, 0.2)

    return amount


def _fitful_growth(draw: random.Random) -> Callable[[int, date], float]:
    level, rate = [20.0], [0.0]

    def amount(n: int, day: date) -> float:
        if n % 14 == 0:
            rate[0] = draw.uniform(-0.015, 0.03)
        level[0] *= exp(rate[0])
        return level[0] * draw.lognormvariate(0, 0.25)

    return amount


def _payday(draw: random.Random) -> Callable[[int, date], float]:
    return lambda n, day: 25 * (2.5 if day.day in (1, 15) else 1) * draw.lognormvariate(0, 0.3)


def _adoption(draw: random.Random) -> Callable[[int, date], float]:
    joins = [draw.randint(0, 60) for _ in range(draw.randint(3, 12))]

    def amount(n: int, day: date) -> float:
        teams = sum(n >= join for join in joins)
        return 1 + 5 * teams * (1 if day.weekday() < 5 else 0.3) * draw.lognormvariate(0, 0.3)

    return amount


HELD_OUT: dict[str, Shape] = {
    "regimes": _regimes, "fitful growth": _fitful_growth, "payday": _payday, "adoption": _adoption,
}  # fmt: skip


def test_the_interval_holds_four_times_in_five() -> None:
    overall, worst = coverage_of(SHAPES, random.Random(20260601))
    assert 0.76 <= overall <= 0.88
    assert worst > 0.6


def test_on_histories_whose_level_changes_for_good_it_holds_as_often_but_where_nobody_could_know() -> None:
    """A level that moves after the look is known to no history: the middle of a ramp is the worst."""
    overall, worst = coverage_of(OTHER_SHAPES, random.Random("of another hand"))
    assert 0.74 <= overall <= 0.88
    assert worst >= 0.5


def test_on_histories_that_were_held_out_it_holds_as_often() -> None:
    overall, worst = coverage_of(HELD_OUT, random.Random("held out"))
    assert 0.7 <= overall <= 0.92
    assert worst >= 0.55


def coverage_of(shapes: dict[str, Shape], draw: random.Random) -> tuple[float, float]:
    """Histories of 5 to 56 days, seen on days 4 to 26 of a 30-day month: how often the end lies in the interval, over all shapes and for
    the worst; printed with the middle's bias."""
    covered: dict[str, list[tuple[bool, float, float]]] = {}
    for name, shape in shapes.items():
        for _ in range(60):
            amount = shape(draw)
            start = date(2026, 6, draw.randint(4, 26)) - timedelta(days=draw.randint(5, 56))
            calendar = [start + timedelta(days=n) for n in range((END - start).days + 1)]
            history = {day: round(amount(n, day) * USD) for n, day in enumerate(calendar)}
            today = max(start + timedelta(days=5), date(2026, 6, draw.randint(4, 26)))
            seen = at({day: value for day, value in history.items() if day < today}, today)
            end = sum(value for day, value in history.items() if JUNE <= day <= END)
            left = max(1, end - seen.spent_nano)
            covered.setdefault(name, []).append(
                (
                    seen.low_nano <= end <= seen.high_nano,
                    (seen.expected_nano - end) / left,
                    (seen.high_nano - seen.low_nano) / left,
                )
            )
    rates = {}
    for name, results in covered.items():
        rates[name] = sum(held for held, _, _ in results) / len(results)
        bias, width = (median(column) for column in list(zip(*results, strict=True))[1:])
        print(
            f"{name:10} coverage {rates[name]:.0%}, median error of what was left {bias:+.0%}, median width {width:.0%}"
        )
    overall = sum(rates.values()) / len(rates)
    print(f"overall    coverage {overall:.0%} of an 80% interval")
    return overall, min(rates.values())
