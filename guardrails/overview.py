"""What the overview shows of guardrails: what is left of the workspace's own budget, and the burn-down of every budget with its stages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.http import HttpRequest
from django.utils import timezone

from billing.views import panels
from billing.views.panels import Panel, Place
from guardrails import queries, shown
from guardrails.domain.budgets import Kind, Stage, Strategy, Unit
from guardrails.domain.periods import Period
from guardrails.queries import BudgetStatus, Standing
from workspaces.domain.names import plain
from workspaces.roles import Action
from workspaces.views.frame import url, workspace_of

MOST_SHOWN: Final = 7
EACH_SHOWN: Final = 1
_READ: Final = "sluice_budget_statuses"
_TONES: Final = {Stage.NORMAL: "", Stage.ALERT: "warn", Stage.THROTTLE: "warn", Stage.KILL: "bad"}
_SAID: Final = {Stage.NORMAL: "on track", Stage.ALERT: "alert", Stage.THROTTLE: "slowed down", Stage.KILL: "stopped"}
_PERIODS: Final = {
    Period.HOUR: "this hour", Period.DAY: "today", Period.WEEK: "this week", Period.MONTH: "this month", Period.TOTAL: "in all",
}  # fmt: skip


def register() -> None:
    panels.register(Panel("budget_left", Place.FIGURE, Action.SEE_BUDGETS, "guardrails/budget_left.html", budget_left))
    panels.register(
        Panel("budgets", Place.MAIN, Action.SEE_BUDGETS, "guardrails/burn_downs.html", burn_downs, order=10)
    )


def budget_left(request: HttpRequest) -> Mapping[str, Any] | None:
    """What is left of the budget on the whole workspace whose period is the longest; nothing where there is none."""
    found = [
        status
        for status in _statuses(request)
        if status.standing is not None and status.budget.unit is Unit.USD and not status.budget.scope.by
    ]
    order = list(Period)
    found.sort(key=lambda status: (status.budget.period is Period.TOTAL, -order.index(status.budget.period)))
    if not found:
        return {"url": url(request, "guardrails")}
    status = found[0]
    standing = status.standing
    assert standing is not None  # noqa: S101 - chosen above
    return {
        "url": url(request, "guardrails"),
        "name": plain(status.budget.name),
        "left_nano": standing.left,
        "over_nano": standing.over,
        "cap_nano": standing.cap,
        "percent": standing.percent,
        "tone": _TONES[standing.stage],
        "period": _PERIODS[status.budget.period],
    }


def burn_downs(request: HttpRequest) -> Mapping[str, Any] | None:
    """Every budget, the tightest first; of each-value budgets the value that has used most."""
    now = timezone.now()
    every = [one for one in _statuses(request) if one.budget.kind is not Kind.PLAN_QUOTA]
    lines = [line for status in every for line in _lines(status, now)]
    lines.sort(key=lambda line: -line["percent"])
    return {
        "url": url(request, "guardrails"),
        "new_url": url(request, "budget_new"),
        "lines": lines[:MOST_SHOWN],
        "more": max(0, len(lines) - MOST_SHOWN),
        "live": all(status.live for status in every),
    }


def _statuses(request: HttpRequest) -> list[BudgetStatus]:
    """Every budget, read once a request."""
    known: list[BudgetStatus] | None = getattr(request, _READ, None)
    if known is None:
        known = queries.budgets(workspace_of(request), timezone.now())
        setattr(request, _READ, known)
    return known


def _lines(status: BudgetStatus, now: datetime) -> list[dict[str, Any]]:
    if status.standing is not None:
        return [_line(status, status.standing, now)]
    return [_line(status, one, now) for one in status.values[:EACH_SHOWN]]


def _line(status: BudgetStatus, standing: Standing, now: datetime) -> dict[str, Any]:
    rule = status.budget
    at_ms = int(now.timestamp() * 1000)
    cap = rule.cap_at(at_ms)
    marks = [
        (rule.alert_percent, "alert"),
        (rule.throttle_percent if rule.strategy is not Strategy.ALERT_ONLY else None, "slows down"),
        (rule.kill_percent if rule.hard else None, "stops"),
    ]
    return {
        "name": plain(rule.name),
        "value": plain(standing.value) if rule.scope.each else "",
        "period": _PERIODS[rule.period],
        "used": shown.amount(standing.used, rule.unit),
        "cap": shown.amount(cap, rule.unit),
        "percent": standing.percent,
        "used_share": _share(standing.settled, cap),
        "held_share": _share(standing.held, cap),
        "tone": _TONES[standing.stage],
        "said": _SAID[standing.stage],
        "marks": [{"at": f"{percent}%", "said": said} for percent, said in marks if percent and percent < 100],
        "stages": ", ".join(f"{said} at {percent}%" for percent, said in marks if percent),
        "pace": _pace(status, now),
        "resets_at": status.resets_at,
    }


def _pace(status: BudgetStatus, now: datetime) -> str:
    """How far the period is, in percent: where an even burn would stand."""
    if status.resets_at is None:
        return ""
    length = (status.resets_at - status.starts_at).total_seconds()
    return f"{min(100.0, 100 * (now - status.starts_at).total_seconds() / length):.2f}%" if length > 0 else ""


def _share(part: int, whole: int) -> str:
    return f"{min(100.0, 100 * part / whole) if whole else 0:.2f}%"
