"""Models and customers that were not there before and spend fast. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from guardrails.domain.anomalies.kinds import TOLERANCE, Deviation, Kind, Rules, Series, Taught

NEW_DAYS: Final = 3
KNOWN_DAYS: Final = 7
"""In a workspace younger than this everything is new."""
SHARE: Final = 0.05
"""Of the workspace's usual day, from which a newcomer's day is fast."""


def newcomer(
    series: Series,
    days: Sequence[int],
    *,
    first_day: int,
    today: int,
    workspace_days: Sequence[int],
    others: Sequence[int],
    rules: Rules,
    taught: Sequence[Taught] = (),
) -> Deviation | None:
    """Whether a value first seen on `first_day` spends fast. Days are numbers; `days`: its cost on each from `first_day` to `today`.

    `workspace_days`: cost of the workspace's whole days before; `others`: what the other values of the dimension cost on a usual day.
    """
    if today - first_day >= NEW_DAYS or len(workspace_days) < KNOWN_DAYS:
        return None
    peak = max(days, default=0)
    usual_day = median(workspace_days)
    fast = max(float(rules.least_nano), SHARE * usual_day, _high(others))
    fast = max([fast, *(one.per_hour_nano * 24 * TOLERANCE for one in taught if one.kind is Kind.NEW_SPENDER)])
    if peak < fast:
        return None
    return Deviation(
        Kind.NEW_SPENDER, series, first_day * 24, (today + 1) * 24, sum(days), float(peak), 0.0,
        peak / max(1.0, fast), True, {"cost_nano": float(sum(days)), "usual_day_nano": float(usual_day)},
    )  # fmt: skip


def _high(others: Sequence[int]) -> float:
    """What all but the largest tenth stay below."""
    if len(others) < 5:
        return 0.0
    return float(sorted(others)[int(len(others) * 0.9)])
