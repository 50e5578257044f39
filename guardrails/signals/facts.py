"""What there is to say of a budget that crossed a line: read once, when the notice is made, and kept with it.

A notice's `facts` are plain JSON. Amounts are integers in the budget's unit (nano-USD, tokens, calls), moments ISO 8601 in UTC; links are whole
addresses, so that a mail, a webhook's receiver and a page say the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.http import urlencode

from billing import outlook
from billing.domain import keys
from billing.domain.dimensions import Dimension
from billing.ledger import queries as books
from billing.ledger.queries import Days, Granularity
from billing.models import Crossing
from guardrails.domain.alerting import Crossed, Pace
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Kind, Scope, Stage, Unit
from guardrails.domain.periods import FOREVER_MS, Bounds, Period
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.store import StoreError
from guardrails.policy import budget_rules
from guardrails.recovery import values_by_digest
from guardrails.signals.links import address
from workspaces.models import Workspace
from workspaces.views.reads import key_names

DRIVERS: Final = (Dimension.CUSTOMER, Dimension.FEATURE, Dimension.AGENT, Dimension.MODEL)
TOP: Final = 3
LEAST_SPAN: Final = timedelta(minutes=2)
"""A pace over less says more about one call than about the hour."""
Facts = dict[str, Any]


def of_crossing(workspace: Workspace, rule: BudgetRule, crossed: Crossed, value: str, now: datetime) -> Facts:
    """Everything about one counter's crossing. `value`: of an each-value budget. Called inside the workspace."""
    _, start_ms, _ = keys.budget_of(crossed.counter)
    bounds = rule.bounds_at(start_ms)
    scope = Scope(rule.scope.by, value) if rule.scope.each else rule.scope
    pace, usual = _paces(workspace, rule, scope, crossed, bounds, now)
    ends = _moment(bounds.end_ms) if bounds.end_ms < FOREVER_MS else None
    return {
        "budget": budget(workspace, rule, value),
        "threshold": crossed.threshold,
        "used": crossed.settled,
        "cap": crossed.cap,
        "percent": crossed.settled * 100 // crossed.cap if crossed.cap else 0,
        "stage": stage(rule, crossed).value,
        "full": crossed.full,
        "crossed_at": crossed.at.astimezone(UTC).isoformat(),
        "period_start": _moment(bounds.start_ms).isoformat() if start_ms else None,
        "resets_at": ends.isoformat() if ends else None,
        "per_hour": pace.per_hour,
        "usual_per_hour": usual.per_hour,
        "ahead": _ahead(workspace, rule, scope, crossed, bounds, pace, now),
        "then": consequences(rule, crossed.cap),
        "drivers": drivers(workspace, rule, scope, bounds, now),
        "links": links(workspace, rule, scope),
    }


def budget(workspace: Workspace, rule: BudgetRule, value: str = "") -> Facts:
    return {
        "id": rule.id,
        "name": rule.name,
        "kind": rule.kind.value,
        "on": on_words(workspace, rule.scope, value),
        "value": value,
        "period": rule.period.value,
        "unit": rule.unit.value,
    }


def on_words(workspace: Workspace, scope: Scope, value: str = "") -> str:
    """What a budget is on, for people: "the whole workspace", "customer acme", "each customer"."""
    if not scope.by:
        return "the whole workspace"
    noun = scope.by.replace("tag:", "tag ").replace("_", " ")
    of = value or scope.value
    if not of:
        return f"each {noun}"
    if scope.by == Dimension.VIRTUAL_KEY:
        of = key_names(workspace, {of})[of]
    return f"{noun} {of}"


def stage(rule: BudgetRule, crossed: Crossed) -> Stage:
    """The stage of a budget at a crossing, under the cap that was in force."""
    if crossed.full:
        return Stage.KILL
    return replace(rule, cap=crossed.cap, raises=()).stage_at(crossed.settled, 0)


def consequences(rule: BudgetRule, cap: int) -> list[Facts]:
    """What the gateway does and from how much on, in order: slow down, refuse."""
    in_force = replace(rule, cap=cap, raises=())  # the raises of that moment are in `cap`
    slow, limit = in_force.throttle_from(0), in_force.limit_at(0)
    found: list[Facts] = []
    if slow is not None:
        found.append(
            {"what": "throttle", "percent": rule.throttle_percent, "from": slow, "per_minute": rule.throttle_per_minute}
        )
    if limit is not None:
        found.append({"what": "stop", "percent": rule.kill_percent, "from": limit})
    return found


# --- How fast, and how long -------------------------------------------------------------------------------------------
def _paces(
    workspace: Workspace, rule: BudgetRule, scope: Scope, crossed: Crossed, bounds: Bounds, now: datetime
) -> tuple[Pace, Pace]:
    """(lately, over the period so far)"""
    began = _first_use(workspace, rule, scope, bounds, now)
    usual = Pace(crossed.settled, max(crossed.at - began, LEAST_SPAN))
    before = (
        Crossing.objects.filter(
            workspace_id=workspace.pk,
            counter=crossed.counter,
            settled__lt=crossed.settled,
            at__lte=crossed.at - LEAST_SPAN,
        )
        .order_by("-at")
        .first()
    )
    if before is not None and crossed.at - before.at < timedelta(hours=6):
        return Pace(crossed.settled - before.settled, crossed.at - before.at), usual
    return _by_the_hour(workspace, rule, scope, crossed, began) or usual, usual


def _first_use(workspace: Workspace, rule: BudgetRule, scope: Scope, bounds: Bounds, now: datetime) -> datetime:
    """Since when the period's spend has run: its start, or the first day with spend where that is later."""
    start = _moment(bounds.start_ms) if bounds.start_ms else now - timedelta(days=365)
    if now - start < timedelta(days=2):
        return start
    first, today = _day(workspace, start), books.today(workspace, now)
    points = books.series(workspace, Days(first, today), Granularity.DAY, filters=filters(scope))
    days = [point.start for point in points if point.totals.calls and isinstance(point.start, date)]
    if not days:
        return start
    return max(start, datetime(days[0].year, days[0].month, days[0].day, tzinfo=ZoneInfo(workspace.time_zone)))


def _by_the_hour(
    workspace: Workspace, rule: BudgetRule, scope: Scope, crossed: Crossed, began: datetime
) -> Pace | None:
    """The pace of this hour and the one before, where hours are kept."""
    if rule.unit is Unit.TOKENS or scope.by in (Dimension.USER, Dimension.SESSION):
        return None
    today = _day(workspace, crossed.at)
    points = books.series(workspace, Days(today - timedelta(days=1), today), Granularity.HOUR, filters=filters(scope))
    since = max(crossed.at.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1), began)
    amount = sum(
        _measure(rule.unit, point.totals)
        for point in points
        if isinstance(point.start, datetime) and point.start >= since
    )
    return Pace(amount, crossed.at - since) if amount and crossed.at - since >= LEAST_SPAN else None


def _ahead(
    workspace: Workspace, rule: BudgetRule, scope: Scope, crossed: Crossed, bounds: Bounds, pace: Pace, now: datetime
) -> list[Facts]:
    """The lines to come in this period: what, from how much on, when at the pace of lately, and on which day by the forecast."""
    ends = _moment(bounds.end_ms) if bounds.end_ms < FOREVER_MS else None
    lines = [(one["what"], one["percent"], one["from"]) for one in consequences(rule, crossed.cap)]
    if not any(what == "stop" for what, _, _ in lines):
        lines.append(("cap", 100, crossed.cap))
    coming = [line for line in lines if crossed.settled < line[2]]
    seen = None
    if (
        coming
        and ends
        and rule.unit is Unit.USD
        and rule.period in (Period.WEEK, Period.MONTH)
        and bounds.holds(_ms(now))
    ):
        days = Days(_day(workspace, _moment(bounds.start_ms)), _day(workspace, ends - timedelta(seconds=1)))
        today = books.today(workspace, now)
        if days.first <= today <= days.last:
            seen = outlook.of(workspace, now, days, filters(scope))
    found = []
    for what, percent, line in coming:
        at = pace.reaches(line, crossed.settled, crossed.at, ends)
        day = seen.crossing(line).expected if seen else None
        found.append({
            "what": what, "percent": percent, "from": line,
            "at": at.astimezone(UTC).isoformat() if at else None, "day": day.isoformat() if day else None,
        })  # fmt: skip
    return found


# --- Who and what -----------------------------------------------------------------------------------------------------
def drivers(workspace: Workspace, rule: BudgetRule, scope: Scope, bounds: Bounds, now: datetime) -> list[Facts]:
    """What drove a budget in its period."""
    today = books.today(workspace, now)
    start = _day(workspace, _moment(bounds.start_ms)) if bounds.start_ms else today - timedelta(days=30)
    return top_of_days(workspace, Days(min(start, today), today), scope, rule.unit)


def top_of_days(workspace: Workspace, days: Days, scope: Scope, unit: Unit) -> list[Facts]:
    """The top three of each dimension, with their share of the whole: in calls for a budget of calls, else in dollars."""
    rank_by, unit = ("calls", Unit.CALLS) if unit is Unit.CALLS else ("cost_nano", Unit.USD)
    whole = _measure(unit, books.totals(workspace, days, filters(scope)))
    found = []
    for dimension in DRIVERS:
        if dimension == scope.by:
            continue
        rows = books.by_value(workspace, days, dimension, filters=filters(scope), limit=TOP + 1, rank_by=rank_by)
        shown = [
            {
                "name": row.value,
                "amount": _measure(unit, row.totals),
                "share": round(100 * _measure(unit, row.totals) / whole) if whole else 0,
                "calls_url": calls_link(workspace, {**filters(scope), dimension.value: row.value}),
            }
            for row in rows
            if row.value and _measure(unit, row.totals) > 0
        ]
        if shown:
            found.append({"dimension": dimension.value, "unit": unit.value, "rows": shown[:TOP]})
    return found


def filters(scope: Scope) -> dict[str, str]:
    return {scope.by: scope.value} if scope.by and scope.value else {}


def values_of(workspace: Workspace, counters: list[str]) -> dict[str, str]:
    """Counter -> the value it counts, for counters of each-value budgets: as the money Redis knows it, else as the books do.

    One that neither knows any more is left out.
    """
    try:
        found = control.read_some(sync_store(), workspace.pk, counters)
    except StoreError:
        found = []
    named = {counter.suffix: counter.label for counter in found if counter.label}
    unnamed = {counter: keys.budget_of(counter) for counter in counters if counter not in named}
    if unnamed:
        wanted = {str(budget_id) for budget_id, _, _ in unnamed.values()}
        rules = {rule.id: rule for rule in budget_rules(workspace) if rule.id in wanted}
        by_digest = values_by_digest(workspace, rules)
        named |= {counter: by_digest[digest] for counter, (_, _, digest) in unnamed.items() if digest in by_digest}
    return named


def links(workspace: Workspace, rule: BudgetRule, scope: Scope) -> Facts:
    """The levers: raise and lower the cap, see the calls, revoke a key."""
    calls = calls_link(workspace, filters(scope))
    if rule.kind is Kind.PLAN_QUOTA:
        return {"calls": calls, "plan": address("settings", workspace.slug)}
    found = {
        "raise": address("raise_new", workspace.slug, UUID(rule.id)),
        "budget": address("budget_edit", workspace.slug, UUID(rule.id)),
        "calls": calls,
        "keys": address("keys", workspace.slug),
    }
    if scope.by == Dimension.VIRTUAL_KEY and scope.value:
        found["revoke"] = address("key_revoke", workspace.slug, UUID(scope.value))
    return found


def calls_link(workspace: Workspace, wanted: dict[str, str]) -> str:
    named = {("key" if name == Dimension.VIRTUAL_KEY else name): value for name, value in wanted.items()}
    return address("calls", workspace.slug) + (f"?{urlencode(named)}" if named else "")


def _measure(unit: Unit, totals: books.Totals) -> int:
    if unit is Unit.CALLS:
        return totals.calls
    return totals.tokens if unit is Unit.TOKENS else totals.cost_nano


def _day(workspace: Workspace, moment: datetime) -> date:
    return books.today(workspace, moment)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
