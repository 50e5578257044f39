"""A budget before it is made (or changed): what it would have done to the last thirty days, and when it acts at the present pace.

Everything is read from rollups, never from the ledger, so the cost is bounded by days, hours and values, not by calls. Hours are the finest
that rollups keep (days for users and sessions), and that resolution is part of every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import connection

from billing.domain.money import NANO_PER_USD
from billing.ledger import values as kept
from billing.ledger.rollups import NO_HOURS
from guardrails.actions import checked
from guardrails.domain import backtest
from guardrails.domain.backtest import Bucket, Outlook, Replayed
from guardrails.domain.budgets import Budget, Unit
from guardrails.domain.periods import FOREVER_MS, Period
from workspaces import tenancy
from workspaces.errors import Invalid
from workspaces.models import Workspace

DAYS: Final = 30
MOST_DAYS: Final = 60
PACE_DAYS: Final = 7
VALUES: Final = 20
"""Values of an each-value budget whose past is shown one by one; the sums are over all of them."""
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
_MEASURES: Final[dict[Unit, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    Unit.USD: (("cost_nano",), ()),
    Unit.CALLS: (("attempts",), ("voids",)),
    Unit.TOKENS: (("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"), ()),
}
"""A unit -> the measures of rollups that it adds up, and those that it subtracts."""
_NO_END: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ValueReplayed:
    value: str
    replayed: Replayed


@dataclass(frozen=True, slots=True)
class Backtest:
    since_ms: int
    """Start of the period that was running so many days ago; for a budget in total, so many days ago."""
    until_ms: int
    resolution: str
    """ "hour" or "day": how sharp the moments are."""
    total: Replayed
    """All periods and values added up."""
    periods: tuple[Replayed, ...]
    """Of a budget on one scope, oldest first: those in which a stage began."""
    values: tuple[ValueReplayed, ...]
    """Of an each-value budget: the values it would have held back most, all their periods added up."""
    value_count: int
    """Values that spent at all."""
    stopped_count: int
    """Values that would have been stopped at least once."""


@dataclass(frozen=True, slots=True)
class Preview:
    now_ms: int
    pace: int
    """Used a day, in the budget's unit, over the last `PACE_DAYS` (or since the first call, if that is later). Each-value: of the value with most."""
    running: Outlook
    """The rest of the running period. A new budget counts from now on: nothing was used yet."""
    full: Outlook | None
    """The next whole period, from zero; None for a budget that never resets."""
    value: str = ""
    """Of an each-value budget: the value that uses most, of which the two outlooks are."""
    value_count: int = 0
    reaching_count: int = 0
    """Values whose pace reaches the first stage in a whole period (or at all, where it never resets)."""


def run_backtest(workspace: Workspace, draft: Budget, now: datetime, *, days: int = DAYS) -> Backtest:
    """Replay the last `days` against a budget that need not exist. Raises Invalid where rollups are too coarse for it."""
    draft = replace(draft, raises=())
    hourly = draft.scope.by not in NO_HOURS
    if draft.period is Period.HOUR and not hourly:
        raise Invalid(f"Hours of single {draft.scope.by}s are not kept, so the past cannot be replayed by the hour.")
    now_ms = _ms(now)
    asked_ms = now_ms - days * DAY_MS
    since_ms = asked_ms if draft.period is Period.TOTAL else draft.bounds_at(asked_ms).start_ms
    resolution = "hour" if hourly else "day"
    with tenancy.entered(workspace):
        if not draft.scope.each:
            buckets = _buckets(workspace, draft, since_ms, [draft.scope.value or ""], hourly=hourly)
            found = backtest.replay(draft, buckets.get(draft.scope.value or "", []))
            acted = tuple(one for one in found if one.alert_ms or one.throttle_ms or one.kill_ms)
            return Backtest(since_ms, now_ms, resolution, backtest.merged(found), acted, (), 0, 0)
        top = _held_back_most(workspace, draft, since_ms, now_ms)
        past = _buckets(workspace, draft, since_ms, [row.value for row in top], hourly=hourly)
    values = [ValueReplayed(row.value, backtest.merged(backtest.replay(draft, past.get(row.value, [])))) for row in top]
    of_top = backtest.merged([one.replayed for one in values])
    used, blocked, calls = (top[0].all_used, top[0].all_blocked, top[0].all_calls) if top else (0, 0, 0)
    # The values beyond the first ones are known by their periods' sums: no throttle, but the cap to the nano.
    blocked += of_top.blocked - sum(row.blocked for row in top)
    calls += of_top.blocked_calls - sum(row.calls for row in top)
    total = replace(of_top, allowed=used - blocked - of_top.slowed, blocked=blocked, blocked_calls=max(0, calls))
    acted_on = (one for one in values if one.replayed.alert_ms or one.replayed.throttle_ms or one.replayed.kill_ms)
    counts = (top[0].values, top[0].stopped) if top else (0, 0)
    return Backtest(since_ms, now_ms, resolution, total, (), tuple(acted_on), *counts)


def preview(workspace: Workspace, draft: Budget, now: datetime, *, used: int = 0) -> Preview:
    """At the pace of the last seven days. `used`: in the running period so far, of a budget that exists."""
    draft = replace(draft, raises=())
    now_ms, zone = _ms(now), ZoneInfo(workspace.time_zone)
    today = now.astimezone(zone).date()
    with tenancy.entered(workspace):
        first = max(today - timedelta(days=PACE_DAYS - 1), _first_day(workspace) or today)
        pace_ms = max(HOUR_MS, now_ms - _ms(datetime(first.year, first.month, first.day, tzinfo=zone)))
        rows = _paces(workspace, draft, first, pace_ms, now_ms)
    top = rows[0] if rows else _Pace("", 0, 0, 0)
    amount = int(top.amount)
    bounds = draft.bounds_at(now_ms)
    endless = bounds.end_ms == FOREVER_MS
    running = backtest.outlook(
        draft, used=0 if draft.scope.each else used, pace_amount=amount, pace_ms=pace_ms, now_ms=now_ms
    )
    full = None
    if not endless:
        full = backtest.outlook(draft, used=0, pace_amount=amount, pace_ms=pace_ms, now_ms=bounds.end_ms)
    each = draft.scope.each
    return Preview(
        now_ms, amount * DAY_MS // pace_ms, running, full,
        top.value if each else "", top.values if each else 0, top.reaching if each else 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usual:
    """Amounts to begin with, from what a workspace usually spends; `known` is False where it has not spent anything yet."""

    known: bool
    daily_stop_nano: int
    monthly_nano: int
    monthly_alert_nano: int


UNKNOWN: Final = Usual(False, 25 * NANO_PER_USD, 500 * NANO_PER_USD, 300 * NANO_PER_USD)


def usual(workspace: Workspace, now: datetime) -> Usual:
    """The Daily Hard Stop at twice the dearest of the last 30 days, the month at half as much again as those days, the alert at as much."""
    zone = ZoneInfo(workspace.time_zone)
    since = now.astimezone(zone).date() - timedelta(days=DAYS - 1)
    with tenancy.entered(workspace):
        most, spent, first = _rows(
            "SELECT coalesce(max(cost_nano), 0), coalesce(sum(cost_nano), 0)::bigint, min(day) FROM billing_rollup_day "
            "WHERE workspace_id = %s AND dimension = '' AND day >= %s AND cost_nano > 0",
            [workspace.pk, since],
        )[0]
    if not spent:
        return UNKNOWN
    length = max(1, (now.astimezone(zone).date() - first).days + 1)
    month = int(spent) * DAYS // length
    return Usual(True, _round_up(2 * int(most)), _round_up(month * 3 // 2), _round_up(month))


def _round_up(nano: int) -> int:
    """To a plain amount of dollars, at most two figures: what a person would have written."""
    dollars = max(1, -(-nano // NANO_PER_USD))
    step = int(10 ** max(0, len(str(dollars)) - 2))
    plain: int = -(-dollars // step) * step
    return min(plain, 9_000_000) * NANO_PER_USD


# --- Reading rollups --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Held:
    value: str
    blocked: int
    calls: int
    values: int
    stopped: int
    all_used: int
    all_blocked: int
    all_calls: int


@dataclass(frozen=True, slots=True)
class _Pace:
    value: str
    amount: int
    values: int
    reaching: int


def _buckets(
    workspace: Workspace, draft: Budget, since_ms: int, values: Sequence[str], *, hourly: bool
) -> dict[str, list[Bucket]]:
    """The past of these values, each in order of time."""
    zone = ZoneInfo(workspace.time_zone)
    plus, minus = _MEASURES[draft.unit]
    grain, first, last = _span(since_ms, zone, hourly=hourly)
    found: dict[str, list[Bucket]] = {}
    measures = (*plus, *minus, "attempts", "voids")
    for start, value, *sums in kept.over_time(workspace.pk, grain, draft.scope.by, first, last, measures, list(values)):
        amount = sum(sums[: len(plus)]) - sum(sums[len(plus) : len(plus) + len(minus)])
        found.setdefault(value, []).append(Bucket(*_bounds_of(start, zone), amount, sums[-2] - sums[-1]))
    return found


def _span(since_ms: int, zone: ZoneInfo, *, hourly: bool) -> tuple[kept.Grain, kept.Moment, kept.Moment]:
    if hourly:
        return kept.HOUR, moment(since_ms), _NO_END
    return kept.DAY, moment(since_ms).astimezone(zone).date(), _NO_END.date()


def _held_back_most(workspace: Workspace, draft: Budget, since_ms: int, now_ms: int) -> list[_Held]:
    """The values of most blocked (then most used) spending, each row with the sums over all values."""
    starts, at_ms = [], since_ms
    by_hour = draft.period is Period.HOUR
    while at_ms < now_ms and not by_hour:
        starts.append(at_ms)
        at_ms = draft.bounds_at(at_ms).end_ms
    zone = ZoneInfo(workspace.time_zone)
    days = None if by_hour else [moment(start).astimezone(zone).date() for start in starts]
    grain, first, last = _span(since_ms, zone, hourly=by_hour)
    plus, minus = _MEASURES[draft.unit]
    rows = kept.beyond(
        workspace.pk, grain, draft.scope.by, first, last, measures=plus, less=minus, limit=draft.limit_at(now_ms), starts=days
    )  # fmt: skip
    stopped = sum(row.beyond > 0 for row in rows)
    sums = (sum(row.used for row in rows), sum(row.beyond for row in rows), sum(row.calls for row in rows))
    rows.sort(key=lambda row: (-row.beyond, -row.used, row.value))
    return [_Held(row.value, row.beyond, row.calls, len(rows), stopped, *sums) for row in rows[:VALUES]]


def _paces(workspace: Workspace, draft: Budget, first: date, pace_ms: int, now_ms: int) -> list[_Pace]:
    """The value (of one scope: its own) that used most since `first`; how many used anything; how many of them reach the first stage."""
    thresholds = [
        backtest.alert_from(draft, now_ms), draft.throttle_from(now_ms), draft.limit_at(now_ms),
    ]  # fmt: skip
    needed = min((threshold for threshold in thresholds if threshold is not None), default=None)
    bounds = draft.bounds_at(now_ms)
    if needed is not None and bounds.end_ms != FOREVER_MS:
        needed = -(-needed * pace_ms // (bounds.end_ms - bounds.start_ms))
    elif needed is not None:
        needed = 1
    plus, minus = _MEASURES[draft.unit]
    measures, until = (*plus, *minus), _NO_END.date()
    every: dict[str, tuple[int, ...]] = {}
    if draft.scope.each:
        every = kept.summed(workspace.pk, kept.DAY, [draft.scope.by], first, until, measures)[draft.scope.by]
    else:
        own = [draft.scope.value or ""]
        for _, value, *sums in kept.over_time(workspace.pk, kept.DAY, draft.scope.by, first, until, measures, own):
            every[value] = tuple(map(sum, zip(every.get(value, (0,) * len(measures)), sums, strict=True)))
    used = {value: sum(sums[: len(plus)]) - sum(sums[len(plus) :]) for value, sums in every.items()}
    if not used:
        return []
    reaching = 0 if needed is None else sum(amount >= needed for amount in used.values())
    value = min(used, key=lambda one: (-used[one], one))
    return [_Pace(value, used[value], len(used), reaching)]


def _first_day(workspace: Workspace) -> date | None:
    rows = _rows("SELECT min(day) FROM billing_rollup_day WHERE workspace_id = %s AND dimension = ''", [workspace.pk])
    return rows[0][0] if rows else None


def _rows(query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _bounds_of(start: date | datetime, zone: ZoneInfo) -> tuple[int, int]:
    if isinstance(start, datetime):
        begin = _ms(start)
        return begin, begin + HOUR_MS
    following = start + timedelta(days=1)
    return tuple(_ms(datetime(day.year, day.month, day.day, tzinfo=zone)) for day in (start, following))  # type: ignore[return-value]


def days(value: Any) -> int:
    """How far back to look, as people write it. Raises Invalid."""
    return checked.whole(value, low=1, high=MOST_DAYS, field="days")


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
