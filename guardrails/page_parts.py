"""What the guardrails pages show of budgets and limits, as plain values for the templates."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from billing.domain.dimensions import Dimension
from guardrails import shown
from guardrails.domain.budgets import Budget, Kind, Scope, Stage, Strategy, Unit
from guardrails.domain.periods import Period
from guardrails.domain.rates import WHAT, Metric
from guardrails.forms import SCOPES
from guardrails.models import BarredModel, RateLimit
from guardrails.queries import BudgetStatus, Standing
from workspaces.models import VirtualKey
from workspaces.roles import Action, may
from workspaces.views import reads
from workspaces.views.frame import membership_of, url, workspace_of

TONES = {Stage.NORMAL: "", Stage.ALERT: "warn", Stage.THROTTLE: "warn", Stage.KILL: "bad"}
PILLS = {Stage.NORMAL: "good", Stage.ALERT: "warn", Stage.THROTTLE: "warn", Stage.KILL: "bad"}
STAGES = {Stage.NORMAL: "on track", Stage.ALERT: "alert", Stage.THROTTLE: "slowed down", Stage.KILL: "stopped"}
_STRATEGIES = {Strategy.REJECT: "stops", Strategy.THROTTLE: "slows down", Strategy.ALERT_ONLY: "only tells"}


def allowed(request: HttpRequest, action: Action) -> bool:
    return may(membership_of(request).role, action)


def keys_of(request: HttpRequest) -> list[VirtualKey]:
    return reads.keys_of(workspace_of(request))


def key_choices(request: HttpRequest) -> list[tuple[str, str]]:
    return [(str(key.id), key.name) for key in keys_of(request)]


def budget(request: HttpRequest, status: BudgetStatus, names: dict[str, str]) -> dict[str, Any]:
    """One budget with how far it is."""
    rule = status.budget
    own = rule.kind is not Kind.PLAN_QUOTA
    raised = rule.cap_at(int(timezone.now().timestamp() * 1000)) - rule.cap
    lines = [status.standing] if status.standing else list(status.values)
    return {
        "id": rule.id,
        "name": rule.name,
        "on": on(rule.scope, names),
        "period": period(rule.period),
        "cap": shown.amount(rule.cap, rule.unit),
        "raised": shown.amount(raised, rule.unit) if raised else "",
        "raise_url": url(request, "raise_new", rule.id) if own and allowed(request, Action.REQUEST_RAISE) else "",
        "does": _STRATEGIES[rule.strategy] if own else "your plan",
        "resets_at": status.resets_at,
        "lines": [line(one, rule, names) for one in lines],
        "is_each": rule.scope.each,
        "count": status.value_count,
        "stopped": status.stopped_count,
        "more": max(0, status.value_count - len(status.values)),
        "edit_url": url(request, "budget_edit", rule.id) if own and allowed(request, Action.MANAGE_BUDGETS) else "",
    }


def line(standing: Standing, rule: Budget, names: dict[str, str]) -> dict[str, Any]:
    """A counter as a bar: amounts as text, widths as percents of the cap."""
    unit = rule.unit
    value = names.get(standing.value, standing.value) if rule.scope.by == Dimension.VIRTUAL_KEY else standing.value
    filled = min(100.0, 100 * standing.settled / standing.cap) if standing.cap else 0.0
    return {
        "value": value,
        "used_text": shown.amount(standing.used, unit),
        "held_text": shown.amount(standing.held, unit) if standing.held else "",
        "cap_text": shown.amount(standing.cap, unit),
        "left_text": shown.amount(standing.left, unit),
        "over_text": shown.amount(standing.over, unit) if standing.over else "",
        "percent": standing.percent,
        "filled": f"{filled:.2f}",
        "held": f"{min(100.0 - filled, 100 * standing.held / standing.cap) if standing.cap else 0.0:.2f}",
        "ticks": ticks(rule),
        "tone": TONES[standing.stage],
        "pill": PILLS[standing.stage],
        "stage": STAGES[standing.stage],
    }


def ticks(rule: Budget) -> list[int]:
    """Where on its bar a budget's stages begin, in percent; the end of the bar needs no mark."""
    slow = rule.throttle_percent if rule.strategy is not Strategy.ALERT_ONLY else None
    scale = rule.kill_percent if rule.hard and rule.kill_percent else 100
    return [at * 100 // scale for at in (rule.alert_percent, slow) if at is not None and at < scale]


def limit(request: HttpRequest, row: RateLimit, names: dict[str, str]) -> dict[str, Any]:
    return {
        "on": on(row.scope, names),
        "limit": f"{row.limit:,}",
        "what": WHAT[Metric(row.metric)],
        "burst": f"{row.burst:,}" if row.burst else "",
        "edit_url": url(request, "limit_edit", row.pk) if allowed(request, Action.MANAGE_LIMITS) else "",
    }


def barred(request: HttpRequest, row: BarredModel) -> dict[str, Any]:
    return {
        "name": str(row),
        "held": row.held_nano,
        "cost": row.cost_nano,
        "since": row.barred_at,
        "lift_url": url(request, "bar_lift", row.pk) if allowed(request, Action.MANAGE_BUDGETS) else "",
    }


def on(scope: Scope, names: dict[str, str]) -> str:
    """ "the whole workspace", "each customer", "customer acme" """
    if not scope.by:
        return "the whole workspace"
    if scope.each:
        return f"each {noun(scope.by)}"
    return f"{noun(scope.by)} {names.get(scope.value or '', scope.value or '')}"


def noun(by: str) -> str:
    return dict(SCOPES).get(by, by).partition(" ")[2] or by.replace("tag:", "tag ")


def period(of: Period) -> str:
    return "in total" if of is Period.TOTAL else f"a {of.value}"


def amount(value: int, unit: Unit) -> str:
    return shown.amount(value, unit)
