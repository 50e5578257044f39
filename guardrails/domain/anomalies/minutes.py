"""Minutes out of the ordinary: a session, agent or key that fires far beyond its habit, and attempts that fail far more than usual. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from guardrails.domain.anomalies.kinds import TOLERANCE, Deviation, Kind, Rules, Series, Taught, taught_for

LEAST_ATTEMPTS: Final = 30
"""In the window of a loop: people and their agents do that much now and then."""
LEAST_UNKNOWN: Final = 100
"""In the window, for a key or customer without a habit: its first day may be a busy one."""
LEAST_UNKNOWN_AGENT: Final = 60
"""For an agent without one: it is one caller, not the door of many."""
BEYOND: Final = 4.0
"""So many times the habit."""
LEAST_ERRORS: Final = 20
LEAST_ERROR_SHARE: Final = 0.25
DAY_S: Final = 86_400
LEFT_ALONE: Final = 7
"""Days for which a loop is thought to go on when nobody looks: what it costs until then has to be worth telling."""
FEW: Final = 0.34
"""Above this share of one session, user or customer, calls are not those of many."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a series did in the last one to two minutes (loops) or five (errors). `start`: Unix seconds."""

    series: Series
    start: int
    seconds: float
    attempts: int
    errors: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Habit:
    """What is usual for a series: attempts a minute at this hour of the week, the busiest minute of late, the share that fails."""

    per_minute: float = 0.0
    busiest: float = 0.0
    error_share: float = 0.0
    is_known: bool = True
    """False for a key or agent of today."""


def loop(pace: Pace, habit: Habit, rules: Rules, taught: Sequence[Taught] = (), *, slot: int = 0) -> Deviation | None:
    """Whether the series fires far beyond its habit: several times its busiest minute, more than chance, and worth money if it is left alone."""
    minutes = max(pace.seconds / 60, 1 / 60)
    usual = max(habit.per_minute, 0.0) * minutes
    busiest = habit.busiest * max(1.0, minutes)
    expected = max(
        [one.per_minute * TOLERANCE for one in taught_for(taught, (Kind.LOOP, Kind.VOLUME), slot)], default=0.0
    )
    allowed = usual + expected * max(1.0, minutes) if expected else 0.0
    unknown = LEAST_UNKNOWN_AGENT if pace.series.dimension == "agent" else LEAST_UNKNOWN
    floor = LEAST_ATTEMPTS if habit.is_known else unknown
    least = max(floor, BEYOND * usual, busiest * rules.ratio, allowed)
    score = (pace.attempts - usual) / sqrt(max(usual, 1.0))
    a_day = pace.cost_nano / max(pace.seconds, 1.0) * DAY_S
    if pace.attempts < least or score < rules.deviations or a_day * LEFT_ALONE < rules.least_nano:
        return None
    excess = pace.cost_nano * (1 - usual / pace.attempts)
    return Deviation(
        Kind.LOOP, pace.series, pace.start, pace.start + round(pace.seconds), round(excess), pace.attempts / minutes, habit.per_minute, score, True,
        {"calls": float(pace.attempts), "cost_nano": float(pace.cost_nano), "a_day_nano": a_day, "busiest": habit.busiest},
    )  # fmt: skip


def error_storm(
    pace: Pace, habit: Habit, rules: Rules, taught: Sequence[Taught] = (), *, slot: int = 0
) -> Deviation | None:
    """Whether far more attempts fail than usual. Failures are told whatever they cost: the ones that cost nothing stop the product."""
    if taught_for(taught, (Kind.ERROR_STORM,), slot) or pace.errors < LEAST_ERRORS:
        return None
    share, usual = pace.errors / pace.attempts, habit.error_share
    spread = sqrt(max(usual * (1 - usual), 0.01) / pace.attempts)
    score = (share - usual) / spread
    if share < max(LEAST_ERROR_SHARE, 3 * usual) or score < rules.deviations:
        return None
    return Deviation(
        Kind.ERROR_STORM, pace.series, pace.start, pace.start + round(pace.seconds), 0, share, usual, score, True,
        {"calls": float(pace.attempts), "errors": float(pace.errors)},
    )  # fmt: skip


def is_many(shares: Sequence[float]) -> bool:
    """Whether a key's calls come from many callers (sessions, users, customers): then it is busy, and not looping. No shares: nobody said."""
    return bool(shares) and max(shares) < FEW and len(shares) >= 5
