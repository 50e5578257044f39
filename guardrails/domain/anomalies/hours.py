"""Hours out of the ordinary: each hour of a series is held against its habit, and neighbouring ones become one deviation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

from guardrails.domain.anomalies.baseline import History, mixes, slot_of
from guardrails.domain.anomalies.kinds import TOLERANCE, Deviation, Kind, Rules, Series, Taught, taught_for

LEAST_CALLS: Final = 5
"""Calls of an hour whose mean cost is judged."""
DEARER: Final = 1.6
"""A call is not called dear below so many times its usual cost."""
DUST: Final = 24
"""An hour that cost less than this part of the least dollars is not looked at."""
GAP: Final = 1
"""Quiet hours that do not end a deviation."""


@dataclass(frozen=True, slots=True)
class _Odd:
    """One hour out of the ordinary."""

    hour: int
    excess: float
    score: float


def deviations(
    series: Series, history: History, first: int, last: int, rules: Rules, taught: Sequence[Taught] = ()
) -> list[Deviation]:
    """The deviations of hours `first` to `last` (both included; the last may still be running: it is judged by what it did so far)."""
    runs: list[list[_Odd]] = []
    for hour in range(first, last + 1):
        odd = _odd(history, hour, rules, taught)
        if odd is None:
            continue
        if runs and hour - runs[-1][-1].hour <= GAP + 1:
            runs[-1].append(odd)
        else:
            runs.append([odd])
    found = (_deviation(series, history, run, last) for run in runs)
    return [one for one in found if one.excess_nano >= rules.least_nano]


def _odd(history: History, hour: int, rules: Rules, taught: Sequence[Taught]) -> _Odd | None:
    cell = history.at(hour)
    if cell.cost_nano <= 0 or cell.cost_nano * DUST < rules.least_nano:
        return None
    level, price = history.cost(hour), history.price(hour)
    if level is None:
        return None
    slot = slot_of(hour)
    known = taught_for(taught, (Kind.VOLUME, Kind.LOOP, Kind.COST_PER_CALL, Kind.MODEL_MIX, Kind.NEW_SPENDER), slot)
    allowed = max([one.per_hour_nano * TOLERANCE for one in known], default=0.0)
    above = cell.cost_nano - level.middle
    score = above / level.spread if level.spread else 0.0
    is_much = above > allowed and score >= rules.deviations and cell.cost_nano >= rules.ratio * level.middle
    by_price = price_score = 0.0
    if price is not None and price.middle > 0 and cell.calls >= LEAST_CALLS:
        each = cell.cost_nano / cell.calls
        middle = max(price.middle, history.price_then(hour))
        usual = max([middle, *(one.per_call_nano * TOLERANCE for one in known)])
        spread = sqrt(price.spread**2 + middle**2 / cell.calls)
        price_score = (each - middle) / spread
        if each > usual and price_score >= rules.deviations * 0.75 and each >= DEARER * middle:
            by_price = cell.calls * (each - usual)
    if is_much:
        return _Odd(hour, above - allowed, score)
    return _Odd(hour, by_price - allowed, price_score) if by_price > allowed else None


def _deviation(series: Series, history: History, run: Sequence[_Odd], last: int) -> Deviation:
    start, end = run[0].hour, run[-1].hour + 1
    cells = [history.at(hour) for hour in range(start, end)]
    cost, calls = sum(cell.cost_nano for cell in cells), sum(cell.calls for cell in cells)
    price = history.price(start)
    levels = [level.middle for hour in range(start, end) if (level := history.cost(hour)) is not None]
    usual_calls = sum(history.calls(hour) for hour in range(start, end))
    dearer = cost / calls / price.middle if calls and price and price.middle else 0.0
    by_price = dearer > calls / max(usual_calls, 1.0)
    """Both multiply the cost: the larger factor names the kind."""
    if by_price:
        observed, usual = cost / max(1, calls), price.middle if price else 0.0
    else:
        observed, usual = cost / (end - start), sum(levels) / max(1, len(levels))
    return Deviation(
        Kind.COST_PER_CALL if by_price else Kind.VOLUME, series, start, end, round(sum(one.excess for one in run)), observed, usual,
        max(one.score for one in run), end > last,
        {
            "calls": float(calls), "cost_nano": float(cost), "usual_calls": round(usual_calls, 1),
            "peak_hour_nano": float(max(cell.cost_nano for cell in cells)),
            "peak_call_nano": max((cell.cost_nano / cell.calls for cell in cells if cell.calls), default=0.0),
            "usual_call_nano": price.middle if price else 0.0,
        },
    )  # fmt: skip


Mix = Mapping[str, tuple[int, int]]
"""Model -> (calls, cost in nano-USD)."""
MIX_SHARE: Final = 0.6
"""Of what calls became dearer, from which it is called a shift of models."""


def by_mix(deviation: Deviation, before: Mix, now: Mix) -> Deviation:
    """The same deviation, as a shift of models where that is why its calls are dearer."""
    if deviation.kind is not Kind.COST_PER_CALL or deviation.series.dimension == "model":
        return deviation
    dearer, mixed, model = mixes(before, now)
    if dearer <= 0 or mixed < MIX_SHARE * dearer or not model:
        return deviation
    whole, was = sum(calls for calls, _ in now.values()), sum(calls for calls, _ in before.values())
    shares: dict[str, float | str] = {
        "model": model,
        "model_share": round(now[model][0] / whole, 3),
        "model_share_before": round(before.get(model, (0, 0))[0] / was, 3),
    }
    return replace(deviation, kind=Kind.MODEL_MIX, facts=deviation.facts | shares)
