"""The four controls at the head of the Guardrails page: what each is for, how it stands, and one amount to switch it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest

from billing.domain import money
from billing.domain.dimensions import Dimension
from guardrails import page_parts
from guardrails.domain.budgets import Kind, Stage, Strategy
from guardrails.domain.rates import WHAT, Metric
from guardrails.drafts import Usual
from guardrails.models import RateLimit
from guardrails.queries import BudgetStatus
from workspaces.roles import Action
from workspaces.views.frame import url

RATE_LIMIT = "rate_limit"
"""The name of the fourth control, beside the kinds of budgets."""
USUAL_RATE = "60"


@dataclass(frozen=True, slots=True)
class _Control:
    kind: str
    title: str
    icon: str
    text: str
    per: str
    action: Action = Action.MANAGE_BUDGETS


CONTROLS = (
    _Control(
        Kind.MONTHLY_CONTROL,
        "Budget Control",
        "shield-check",
        "A circuit breaker for the month in three stages: it tells, it slows down, it stops.",
        "a month",
    ),
    _Control(
        Kind.DAILY_HARD_STOP,
        "Daily Hard Stop",
        "ban",
        "Not a cent beyond it in a day, whatever loops, leaks or goes viral.",
        "a day",
    ),
    _Control(
        Kind.SPEND_ALERT,
        "Monthly Spend Alert",
        "mail",
        "Tells at 50, 75, 90 and 100% of the amount, and as soon as the month is on its way past it. Never in the way of a call.",
        "a month",
    ),
    _Control(
        RATE_LIMIT,
        "Custom Rate Limit",
        "gauge",
        "So many requests a minute for each virtual key: a runaway loop hits this long before it hits a budget.",
        "requests a minute",
        Action.MANAGE_LIMITS,
    ),
)


def cards(
    request: HttpRequest,
    statuses: Sequence[BudgetStatus],
    limits: Sequence[RateLimit],
    usual: Usual,
    refused: str = "",
    form: forms.Form | None = None,
) -> list[dict[str, Any]]:
    """`refused` names the control whose amount was refused, in `form`."""
    by_kind = {status.budget.kind.value: status for status in statuses}
    each_key = next((row for row in limits if _is_each_keys(row)), None)
    found = []
    for control in CONTROLS:
        if control.kind == RATE_LIMIT:
            card = _rate_card(request, each_key, limits)
        else:
            card = _budget_card(request, control, by_kind.get(control.kind), usual)
        bad = refused == control.kind
        found.append(
            {
                "kind": control.kind,
                "title": control.title,
                "icon": control.icon,
                "text": control.text,
                "per": control.per,
                "may": page_parts.allowed(request, control.action),
                "url": url(request, "preset", control.kind),
                **card,
                "value": form["cap"].value() if bad and form else card["value"],
                "errors": [str(error) for errors in form.errors.values() for error in errors] if bad and form else [],
            }
        )
    return found


def _budget_card(request: HttpRequest, control: _Control, status: BudgetStatus | None, usual: Usual) -> dict[str, Any]:
    if status is None or status.standing is None:
        suggested = {
            Kind.DAILY_HARD_STOP.value: usual.daily_stop_nano,
            Kind.MONTHLY_CONTROL.value: usual.monthly_nano,
            Kind.SPEND_ALERT.value: usual.monthly_alert_nano,
        }[control.kind]
        return {
            "is_on": False,
            "value": money.usd_text(suggested),
            "hint": "Suggested from your last 30 days." if usual.known else "",
            "prefix": "$",
        }
    rule, standing = status.budget, status.standing
    return {
        "is_on": True,
        "value": money.usd_text(rule.cap),
        "prefix": "$",
        "line": page_parts.line(standing, rule, {}),
        "stages": _stages(rule.alert_percent, rule.throttle_percent, rule.kill_percent, standing.stage)
        if rule.kind is Kind.MONTHLY_CONTROL and rule.strategy is not Strategy.ALERT_ONLY
        else [],
        "resets_at": status.resets_at,
        "edit_url": url(request, "budget_edit", rule.id) if page_parts.allowed(request, Action.MANAGE_BUDGETS) else "",
    }


def _stages(alert: int | None, throttle: int | None, kill: int | None, now: Stage) -> list[dict[str, Any]]:
    """The three stages of the circuit breaker: where each begins, and whether it has."""
    order = [Stage.NORMAL, Stage.ALERT, Stage.THROTTLE, Stage.KILL]
    named = (
        (Stage.ALERT, "Alert", alert, "warn"),
        (Stage.THROTTLE, "Slow down", throttle, "warn"),
        (Stage.KILL, "Stop", kill, "bad"),
    )
    return [
        {
            "name": name,
            "percent": percent,
            "is_off": percent is None,
            "is_on": percent is not None and order.index(stage) <= order.index(now),
            "tone": tone,
        }
        for stage, name, percent, tone in named
    ]


def _rate_card(request: HttpRequest, row: RateLimit | None, limits: Sequence[RateLimit]) -> dict[str, Any]:
    others = len(limits) - (row is not None)
    more = f"{others} more {'limit' if others == 1 else 'limits'} below." if others else ""
    if row is None:
        return {"is_on": False, "value": USUAL_RATE, "hint": more, "prefix": ""}
    return {
        "is_on": True,
        "value": str(row.limit),
        "prefix": "",
        "figure": f"{row.limit:,} {WHAT[Metric(row.metric)]}",
        "figure_note": f"for each virtual key. {more}".strip(),
        "edit_url": url(request, "limit_edit", row.pk) if page_parts.allowed(request, Action.MANAGE_LIMITS) else "",
    }


def _is_each_keys(row: RateLimit) -> bool:
    return row.by == Dimension.VIRTUAL_KEY and row.value is None and row.metric == Metric.RPM
