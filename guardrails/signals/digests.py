"""The week in numbers, for owners: made when a workspace's Monday begins, mailed on the reader's Monday morning.

One statement over shared tables finds the workspaces with spend in the week that have no digest yet; no schema is walked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import transaction

from billing import outlook
from billing.domain.dimensions import OTHER, Dimension
from billing.domain.forecast import Maturity
from billing.domain.money import show_usd
from billing.ledger import queries as books
from billing.ledger.queries import Days
from guardrails import queries
from guardrails.domain.budgets import Scope, Unit
from guardrails.rounds import go_round, waiting
from guardrails.signals import facts as facts_of
from guardrails.signals.links import address
from guardrails.signals.models import Kind, Notice, Severity
from guardrails.signals.telling import notify
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "workspaces whose week is over get their digest"
AT_ONCE: Final = 50
TOP_MOVERS: Final = 3
TOP_BUDGETS: Final = 3
_WINDOW: Final = timedelta(hours=20)
"""How long after Monday's midnight a digest is still made."""

Section = Callable[[Workspace, Days], dict[str, Any] | None]
"""What another signal adds to the week: {"title": ..., "rows": [[name, amount, beside, url], ...]}, or None."""
SECTIONS: Final[list[Section]] = []

_DUE: Final = """
SELECT w.id FROM workspaces_workspace w
WHERE w.time_zone = ANY(%(zones)s) AND w.state <> 'deleting'
  AND EXISTS (SELECT 1 FROM billing_rollup_day r WHERE r.workspace_id = w.id AND r.dimension = '' AND r.day BETWEEN %(first)s AND %(last)s)
  AND NOT EXISTS (SELECT 1 FROM signals_notice n WHERE n.workspace_id = w.id AND n.key = %(key)s)
LIMIT %(limit)s
"""


def make(now: datetime) -> int:
    """Make the digests that are due. Answers how many."""
    made = 0
    for first, zones in _weeks_over(now).items():
        week = Days(first, first + timedelta(days=6))
        due = {"zones": zones, "first": week.first, "last": week.last, "key": _key(first), "limit": AT_ONCE}
        ids = waiting(_DUE, due, reason=REASON)
        made += go_round(ids, partial(make_for, week=week, now=now), what="the week's digest")
    return made


def _key(first: date) -> str:
    return f"digest:{first}"


def _weeks_over(now: datetime) -> dict[date, list[str]]:
    """Monday of the week that just ended -> the time zones in which it did."""
    zones = (
        Workspace.objects.exclude(state=WorkspaceState.DELETING)
        .order_by()
        .values_list("time_zone", flat=True)
        .distinct()
    )
    found: dict[date, list[str]] = {}
    for name in zones:
        local = now.astimezone(ZoneInfo(name))
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if local.weekday() == 0 and local - midnight < _WINDOW:
            found.setdefault(local.date() - timedelta(days=7), []).append(name)
    return found


def make_for(workspace: Workspace, week: Days, now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        facts = week_of(workspace, week, now)
        if not facts["calls"]:
            return 0
        made = notify(
            workspace,
            kind=Kind.DIGEST,
            severity=Severity.INFO,
            key=_key(week.first),
            title=_title(week, facts),
            facts=facts,
            at=now,
            now=now,
        )
        return 0 if made is None else 1


def _title(week: Days, facts: dict[str, Any]) -> str:
    return f"Your week to {week.last.day} {week.last:%b}: {show_usd(facts['spent_nano'])} for {facts['calls']:,} calls"


def week_of(workspace: Workspace, week: Days, now: datetime) -> dict[str, Any]:
    """What a week's digest says. Inside the workspace."""
    totals, before = books.totals(workspace, week), books.totals(workspace, week.before())
    seen = outlook.of_month(workspace, now)
    ahead = None
    if seen.maturity not in (Maturity.NONE, Maturity.GUESS):
        ahead = {"expected_nano": seen.expected_nano, "low_nano": seen.low_nano, "high_nano": seen.high_nano}
    return {
        "first": week.first.isoformat(), "last": week.last.isoformat(),
        "spent_nano": totals.cost_nano, "before_nano": before.cost_nano, "calls": totals.calls, "errors": totals.errors,
        "forecast": ahead,
        "movers": [mover for dimension in (Dimension.CUSTOMER, Dimension.FEATURE, Dimension.MODEL) if (mover := _movers(workspace, week, dimension))],
        "drivers": facts_of.top_of_days(workspace, week, Scope(), Unit.USD),
        "budgets": _budgets(workspace, now),
        "alerts": _alerts(workspace, week, now),
        "extra": [said for section in SECTIONS if (said := section(workspace, week))],
        "links": {"overview": address("overview", workspace.slug), "calls": address("calls", workspace.slug)},
    }  # fmt: skip


def _movers(workspace: Workspace, week: Days, dimension: str) -> dict[str, Any] | None:
    """The values whose spend changed most against the week before, either way."""
    now = {row.value: row.totals.cost_nano for row in books.by_value(workspace, week, dimension, limit=200)}
    then = {row.value: row.totals.cost_nano for row in books.by_value(workspace, week.before(), dimension, limit=200)}
    changes = [
        (name, now.get(name, 0), then.get(name, 0)) for name in now.keys() | then.keys() if name and name != OTHER
    ]
    changes.sort(key=lambda change: (-abs(change[1] - change[2]), change[0]))
    rows = [{"name": name, "now": new, "before": old} for name, new, old in changes[:TOP_MOVERS] if new != old]
    return (
        {"dimension": dimension.value if isinstance(dimension, Dimension) else dimension, "rows": rows}
        if rows and then
        else None
    )


def _budgets(workspace: Workspace, now: datetime) -> list[dict[str, Any]]:
    standing = [
        (status.budget, status.standing) for status in queries.budgets(workspace, now, values=False) if status.standing
    ]
    standing.sort(key=lambda pair: -pair[1].percent)
    return [
        {"name": rule.name, "used": one.settled, "cap": one.cap, "percent": one.percent, "unit": rule.unit.value}
        for rule, one in standing[:TOP_BUDGETS]
        if one.settled
    ]


def _alerts(workspace: Workspace, week: Days, now: datetime) -> dict[str, int]:
    since, until = books.moments(workspace, week)
    rows = Notice.objects.filter(workspace_id=workspace.pk, at__gte=since, at__lt=until).exclude(kind=Kind.DIGEST)
    counts: dict[str, int] = {}
    for kind in rows.values_list("kind", flat=True):
        counts[_SAID.get(kind, kind.replace("_", " ").capitalize())] = (
            counts.get(_SAID.get(kind, kind.replace("_", " ").capitalize()), 0) + 1
        )
    return counts


_SAID: Final[dict[str, str]] = {
    Kind.THRESHOLD: "Thresholds passed",
    Kind.THROTTLED: "Calls slowed down",
    Kind.STOPPED: "Calls refused",
    Kind.NORMAL: "Back to normal",
    Kind.SPEND_ALERT: "Spend alerts",
    Kind.UNKNOWN_USAGE: "Answers with unknown usage",
    Kind.TEST: "Tests",
}
