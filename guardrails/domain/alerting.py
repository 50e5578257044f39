"""Which crossings become a notice of their own and which are told together. Pure.

Rules: of one counter crossed several times at once only the highest is told. A few values of an each-value budget are told one by one, many
are told as one notice. However many budgets cross at once, a workspace gets a bounded number of notices of its own, the rest in one round-up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

MOST_VALUES_ALONE: Final = 3
"""Values of one each-value budget told one by one, in one go and in one hour."""
MOST_ALONE: Final = 8
"""Notices of a workspace told one by one in one go."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A crossing as the ledger recorded it. Amounts in the budget's unit."""

    budget_id: UUID
    counter: str
    threshold: int
    at: datetime
    settled: int
    cap: int
    full: bool = False
    """Not spent to that percent, but calls are refused: what is left is too little for them."""


@dataclass(frozen=True, slots=True)
class Many:
    """Crossings told together, those that used most of their cap first."""

    crossed: tuple[Crossed, ...]

    @property
    def at(self) -> datetime:
        return max(one.at for one in self.crossed)


@dataclass(frozen=True, slots=True)
class Plan:
    alone: tuple[Crossed, ...]
    of_values: tuple[Many, ...]
    """One an each-value budget."""
    rounded_up: Many | None


def plan(
    crossed: Iterable[Crossed], each: Collection[UUID], told_lately: Collection[UUID] = (), most_alone: int = MOST_ALONE
) -> Plan:
    """What to tell. `each`: the each-value budgets; `told_lately`: those of them that already told enough values one by one within the hour;
    `most_alone`: how many notices of their own there may be."""
    highest: dict[str, Crossed] = {}
    for one in crossed:
        known = highest.get(one.counter)
        if known is None or (one.at, one.threshold) > (known.at, known.threshold):  # the latest cap's, after a raise
            highest[one.counter] = one
    by_budget: dict[UUID, list[Crossed]] = {}
    for one in highest.values():
        by_budget.setdefault(one.budget_id, []).append(one)
    alone: list[Crossed] = []
    together: list[Many] = []
    for budget_id, found in by_budget.items():
        if budget_id in each and (len(found) > MOST_VALUES_ALONE or budget_id in told_lately):
            together.append(Many(_most_used(found)))
        else:
            alone += found
    ordered = _most_used(alone)
    rest = ordered[most_alone:]
    return Plan(ordered[:most_alone], tuple(together), Many(rest) if rest else None)


def _most_used(found: Sequence[Crossed]) -> tuple[Crossed, ...]:
    return tuple(sorted(found, key=lambda one: (-one.threshold, -one.settled / max(1, one.cap), one.counter)))


# --- Pace -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a counter grows: `amount` of its unit over `span`."""

    amount: int
    span: timedelta

    @property
    def per_hour(self) -> int:
        seconds = self.span.total_seconds()
        return round(self.amount * 3600 / seconds) if seconds > 0 else 0

    def reaches(self, line: int, used: int, now: datetime, before: datetime | None) -> datetime | None:
        """When `line` is reached from `used` at this pace; None when it is not before the period ends, or never."""
        if used >= line:
            return now
        if self.amount <= 0 or self.span.total_seconds() <= 0:
            return None
        seconds = (line - used) * self.span.total_seconds() / self.amount
        if seconds > 366 * 86_400:
            return None
        at = now + timedelta(seconds=seconds)
        return None if before is not None and at >= before else at


# --- When mail may come -----------------------------------------------------------------------------------------------
def minutes_until_loud(minute: int, quiet_from: int | None, quiet_to: int | None) -> int:
    """Minutes from a minute of the day (0..1439) until quiet hours end; 0 outside them. They may span midnight."""
    if quiet_from is None or quiet_to is None or quiet_from == quiet_to:
        return 0
    length, into = (quiet_to - quiet_from) % 1440, (minute - quiet_from) % 1440
    return length - into if into < length else 0


GIVEN_UP_AFTER: Final = timedelta(hours=48)
LEAST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 3600.0


def wait_s(age_s: float, jitter: float) -> float:
    """Seconds until the next try of what has waited for `age_s`: half as long again, so that tries thin out. `jitter` (0 to 1) spreads them."""
    return min(LONGEST_WAIT_S, max(LEAST_WAIT_S, age_s / 2)) * (1 + 0.2 * jitter)
