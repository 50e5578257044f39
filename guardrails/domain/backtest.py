"""What a budget would have done to past spending, and when it would act if the present pace goes on. Pure: buckets of amounts in, findings out.

The past comes in buckets (an hour or a day of one scope), so a finding is as sharp as a bucket: *when* is the bucket in which a threshold
was passed, and inside it what came first is taken to have passed first. The gateway itself holds each call's worst case before the call, so it
would refuse a little earlier than this says (by the worst case of the calls under way), never later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from guardrails.domain.budgets import Budget, Strategy
from guardrails.domain.periods import Bounds, Period


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one scope used from `start_ms` up to `end_ms`: `amount` in the budget's unit, by so many calls."""

    start_ms: int
    end_ms: int
    amount: int
    calls: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """One period of the past under the budget. allowed + slowed + blocked is all that was used."""

    start_ms: int
    end_ms: int
    allowed: int = 0
    slowed: int = 0
    """Came faster than the throttle lets through: answered with 429 and when to come again."""
    blocked: int = 0
    """Did not fit under the cap: answered with 402."""
    blocked_calls: int = 0
    """As many calls as cost the blocked amount at the mean cost of their bucket."""
    alert_ms: int | None = None
    """Start of the bucket in which the stage began; None: it did not."""
    throttle_ms: int | None = None
    kill_ms: int | None = None

    @property
    def used(self) -> int:
        return self.allowed + self.slowed + self.blocked


def replay(budget: Budget, buckets: Iterable[Bucket]) -> list[Replayed]:
    """Run past buckets, in order of time, through a budget: one finding for each period that has any. Raises of the budget count as they would
    have. Corrections below zero give back what was used, never what was blocked."""
    found: list[Replayed] = []
    bounds: Bounds | None = None
    for bucket in buckets:
        if bounds is None or not bounds.holds(bucket.start_ms):
            bounds = budget.bounds_at(bucket.start_ms)
            found.append(Replayed(bounds.start_ms, bounds.end_ms))
        found[-1] = _step(budget, found[-1], bucket)
    return found


def _step(budget: Budget, so_far: Replayed, bucket: Bucket) -> Replayed:
    at_ms, used = bucket.start_ms, so_far.allowed
    limit, slow_from, tell_from = budget.limit_at(at_ms), budget.throttle_from(at_ms), alert_from(budget, at_ms)
    wanted = bucket.amount
    fits = wanted if limit is None else max(0, min(wanted, limit - used)) if wanted > 0 else wanted
    slowed = 0
    if slow_from is not None and used + fits > slow_from:
        free = max(0, slow_from - used)
        let_through = min(fits - free, _throttled(budget, so_far, bucket, used + free, fits - free))
        slowed, fits = fits - free - let_through, free + let_through
    blocked = max(0, wanted - fits - slowed)
    after = max(0, used + fits)
    return replace(
        so_far,
        allowed=after,
        slowed=so_far.slowed + slowed,
        blocked=so_far.blocked + blocked,
        blocked_calls=so_far.blocked_calls + (-(-bucket.calls * blocked // wanted) if blocked else 0),
        alert_ms=_first(so_far.alert_ms, at_ms, tell_from is not None and after >= tell_from),
        throttle_ms=_first(so_far.throttle_ms, at_ms, slow_from is not None and after >= slow_from),
        kill_ms=_first(so_far.kill_ms, at_ms, blocked > 0),
    )


def _throttled(budget: Budget, so_far: Replayed, bucket: Bucket, used: int, wanted: int) -> int:
    """How much of what comes past the throttle's threshold the throttle lets through in this bucket."""
    length_ms = max(1, bucket.end_ms - bucket.start_ms)
    if budget.throttle_per_minute:
        calls = budget.throttle_per_minute * length_ms // 60_000
        return wanted if calls >= bucket.calls else wanted * calls // bucket.calls
    left = max(0, budget.cap_at(bucket.start_ms) - used)
    remaining_ms = max(length_ms, so_far.end_ms - bucket.start_ms)
    return left * length_ms // remaining_ms


def alert_from(budget: Budget, at_ms: int) -> int | None:
    return None if budget.alert_percent is None else -(-budget.cap_at(at_ms) * budget.alert_percent // 100)


def _first(known: int | None, at_ms: int, now: bool) -> int | None:
    return at_ms if known is None and now else known


# --- The pace ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Outlook:
    """When each stage begins in the running period if the pace goes on: a moment in ms, `now` where it has begun, None where it does not
    before the period ends (or is switched off)."""

    used: int
    at_end: int
    """What will have been used when the period ends; for a period that never ends, what is used now."""
    alert_ms: int | None
    throttle_ms: int | None
    kill_ms: int | None


def outlook(budget: Budget, *, used: int, pace_amount: int, pace_ms: int, now_ms: int) -> Outlook:
    """`used` so far in the running period; the pace is `pace_amount` in the last `pace_ms`, spread evenly."""
    bounds = budget.bounds_at(now_ms)
    pace = max(0, pace_amount)
    endless = budget.period is Period.TOTAL

    def reached(threshold: int | None) -> int | None:
        if threshold is None:
            return None
        if used >= threshold:
            return now_ms
        if not pace:
            return None
        at_ms = now_ms + -(-(threshold - used) * pace_ms // pace)
        return at_ms if at_ms < bounds.end_ms else None

    slow = budget.throttle_from(now_ms)
    kill = budget.limit_at(now_ms)
    at_end = used if endless else used + pace * (bounds.end_ms - now_ms) // pace_ms
    return Outlook(used, at_end, reached(alert_from(budget, now_ms)), reached(slow), reached(kill))


def stops(budget: Budget) -> bool:
    """Whether the budget ever refuses a call outright."""
    return budget.strategy is Strategy.REJECT and budget.kill_percent is not None


def merged(parts: Sequence[Replayed]) -> Replayed:
    """Periods, or values, added up; the moments are the earliest."""

    def earliest(moments: Iterable[int | None]) -> int | None:
        return min((moment for moment in moments if moment is not None), default=None)

    return Replayed(
        start_ms=min((part.start_ms for part in parts), default=0),
        end_ms=max((part.end_ms for part in parts), default=0),
        allowed=sum(part.allowed for part in parts),
        slowed=sum(part.slowed for part in parts),
        blocked=sum(part.blocked for part in parts),
        blocked_calls=sum(part.blocked_calls for part in parts),
        alert_ms=earliest(part.alert_ms for part in parts),
        throttle_ms=earliest(part.throttle_ms for part in parts),
        kill_ms=earliest(part.kill_ms for part in parts),
    )
