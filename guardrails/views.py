"""Guardrails: what may be spent, how far each budget has burnt, and the forms that change it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from billing.domain import money
from billing.domain.dimensions import Dimension
from guardrails import actions, queries, raise_views, shown
from guardrails.domain.budgets import Kind, Scope, Stage, Strategy, Unit
from guardrails.domain.periods import Period
from guardrails.domain.rates import WHAT, Metric
from guardrails.forms import (
    NAMED_SCOPES,
    RESET_DAYS,
    SCOPES,
    AmountForm,
    BudgetForm,
    BudgetSettingsForm,
    RateLimitForm,
    RateLimitSettingsForm,
)
from guardrails.models import BarredModel, RateLimit
from guardrails.queries import BudgetStatus, Standing
from workspaces import actions as workspace_actions
from workspaces.errors import NotThere, Refused, WrongState
from workspaces.roles import Action, may
from workspaces.views import reads as workspace_reads
from workspaces.views.frame import actor, framed, membership_of, page, refuse, url, workspace_of, workspace_page

_TONES = {Stage.NORMAL: "", Stage.ALERT: "warn", Stage.THROTTLE: "warn", Stage.KILL: "bad"}
_STAGES = {Stage.NORMAL: "on track", Stage.ALERT: "alert", Stage.THROTTLE: "slowed down", Stage.KILL: "stopped"}
_PILLS = {Stage.NORMAL: "good", Stage.ALERT: "warn", Stage.THROTTLE: "warn", Stage.KILL: "bad"}
_STRATEGIES = {Strategy.REJECT: "stops", Strategy.THROTTLE: "slows down", Strategy.ALERT_ONLY: "only tells"}


@workspace_page(Action.SEE_BUDGETS)
def guardrails(request: HttpRequest) -> HttpResponse:
    return page(request, "guardrails/guardrails.html", "guardrails", _overview(request))


@workspace_page(Action.SEE_BUDGETS)
def guardrails_live(request: HttpRequest) -> HttpResponse:
    return render(request, "guardrails/budgets.html", framed(request, "guardrails") | _overview(request))


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def preset(request: HttpRequest, kind: str) -> HttpResponse:
    """The Daily Hard Stop or the monthly Budget Control, made or set to another amount."""
    make = {Kind.DAILY_HARD_STOP: actions.daily_hard_stop, Kind.MONTHLY_CONTROL: actions.monthly_control}.get(kind)  # type: ignore[call-overload]
    if make is None:
        raise NotThere("There is no such control.")
    form = AmountForm(request.POST)
    if form.is_valid():
        try:
            budget = make(
                workspace=workspace_of(request),
                by=actor(request),
                cap_usd=form.cleaned_data["cap"].strip().removeprefix("$"),
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"{budget.name}: {money.show_usd(budget.cap)}. It holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = _overview(request) | {"refused": kind, "refused_form": form}
    return page(request, "guardrails/guardrails.html", "guardrails", context, status=422)


@workspace_page(Action.MANAGE_BUDGETS, methods=("GET", "POST"))
def budget_new(request: HttpRequest) -> HttpResponse:
    form = BudgetForm(request.POST or None, keys=_keys(request))
    if form.is_valid():
        given = form.cleaned_data
        try:
            actions.create_budget(
                workspace=workspace_of(request),
                by=actor(request),
                name=given["name"],
                period=given["period"],
                unit=given["unit"],
                **form.on(),  # type: ignore[arg-type]
                **form.settings(),
            )
        except Refused as error:
            refuse(form, _beside(error, form))
        else:
            messages.success(request, "The budget holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "named_scopes": NAMED_SCOPES,
        "action_url": url(request, "budget_new"),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/budget_new.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_BUDGETS, methods=("GET", "POST"))
def budget_edit(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    status = queries.budget(workspace, str(budget_id), timezone.now())
    if status is None or status.budget.kind is Kind.PLAN_QUOTA:
        raise NotThere("There is no such budget in this workspace.")
    rule = status.budget
    initial = {
        "name": rule.name,
        "cap": money.usd_text(rule.cap) if rule.unit is Unit.USD else str(rule.cap),
        "strategy": rule.strategy.value,
        "alert_percent": rule.alert_percent,
        "throttle_percent": rule.throttle_percent,
        "kill_percent": rule.kill_percent,
        "throttle_per_minute": rule.throttle_per_minute or "",
        "notify": ", ".join(map(str, queries.notify_of(workspace, budget_id))),
        "reset_day": rule.eras[-1].reset_day,
        "on_tight": rule.on_tight.value,
        "message": rule.message,
        "upgrade_url": rule.upgrade_url,
    }
    form = BudgetSettingsForm(request.POST or None, initial=initial)
    if rule.period.value not in RESET_DAYS:
        del form.fields["reset_day"]
    if form.is_valid():
        changes = form.settings() | ({"name": form.cleaned_data["name"]} if form.cleaned_data["name"] else {})
        try:
            actions.update_budget(workspace=workspace, by=actor(request), budget_id=budget_id, **changes)
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved. It holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "budget": _shown(request, status, _key_names(request)),
        "action_url": url(request, "budget_edit", budget_id),
        "delete_url": url(request, "budget_delete", budget_id),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/budget_edit.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",), confirmed_by="guardrails")
def budget_delete(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    actions.delete_budget(workspace=workspace_of(request), by=actor(request), budget_id=budget_id)
    messages.success(request, "The budget is gone. Nothing is held back by it any more.")
    return redirect(url(request, "guardrails"))


@workspace_page(Action.MANAGE_LIMITS, methods=("GET", "POST"))
def limit_new(request: HttpRequest) -> HttpResponse:
    form = RateLimitForm(request.POST or None, keys=_keys(request))
    if form.is_valid():
        given = form.cleaned_data
        try:
            actions.create_rate_limit(
                workspace=workspace_of(request),
                by=actor(request),
                metric=given["metric"],
                limit=given["limit"],
                **form.on(),  # type: ignore[arg-type]
            )
        except Refused as error:
            refuse(form, _beside(error, form))
        else:
            messages.success(request, "The limit holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "named_scopes": NAMED_SCOPES,
        "action_url": url(request, "limit_new"),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/limit_new.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_LIMITS, methods=("GET", "POST"))
def limit_edit(request: HttpRequest, limit_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    row = next((one for one in queries.rate_limits(workspace) if one.pk == limit_id), None)
    if row is None:
        raise NotThere("There is no such rate limit in this workspace.")
    form = RateLimitSettingsForm(request.POST or None, initial={"limit": row.limit})
    if form.is_valid():
        try:
            actions.update_rate_limit(
                workspace=workspace, by=actor(request), limit_id=limit_id, limit=form.cleaned_data["limit"]
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved. It holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "limit": _limit(request, row, _key_names(request)),
        "action_url": url(request, "limit_edit", limit_id),
        "delete_url": url(request, "limit_delete", limit_id),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/limit_edit.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_LIMITS, methods=("POST",))
def limit_delete(request: HttpRequest, limit_id: UUID) -> HttpResponse:
    actions.delete_rate_limit(workspace=workspace_of(request), by=actor(request), limit_id=limit_id)
    messages.success(request, "The limit is gone.")
    return redirect(url(request, "guardrails"))


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def bar_lift(request: HttpRequest, bar_id: UUID) -> HttpResponse:
    actions.lift_bar(workspace=workspace_of(request), by=actor(request), bar_id=bar_id)
    messages.success(request, "The model may be called under hard budgets again.")
    return redirect(url(request, "guardrails"))


@workspace_page(Action.SUSPEND_WORKSPACE, methods=("POST",))
def suspend(request: HttpRequest) -> HttpResponse:
    """The kill switch: at once, without a question in between."""
    with suppress(WrongState):  # somebody was faster: it is as they want it
        workspace_actions.suspend_workspace(workspace=workspace_of(request), by=actor(request))
    return redirect(url(request, "guardrails"))


@workspace_page(Action.SUSPEND_WORKSPACE, methods=("POST",))
def resume(request: HttpRequest) -> HttpResponse:
    with suppress(WrongState):
        workspace_actions.resume_workspace(workspace=workspace_of(request), by=actor(request))
        messages.success(request, "Calls are let through again.")
    return redirect(url(request, "guardrails"))


# --- What the pages show ----------------------------------------------------------------------------------------------
def _overview(request: HttpRequest) -> dict[str, Any]:
    workspace = workspace_of(request)
    names = _key_names(request)
    found = queries.budgets(workspace, timezone.now())
    by_kind = {status.budget.kind: status for status in found}
    return {
        "budgets": [_shown(request, status, names) for status in found],
        "is_live": all(status.live for status in found),
        "limits": [_limit(request, row, names) for row in queries.rate_limits(workspace)],
        "controls": [
            _control(
                request,
                Kind.DAILY_HARD_STOP,
                by_kind,
                "Daily Hard Stop",
                "Not a cent beyond it in a day, whatever happens.",
                "25",
            ),
            _control(
                request,
                Kind.MONTHLY_CONTROL,
                by_kind,
                "Monthly Budget Control",
                "Alerts at 70%, slows down at 90%, stops at 100%.",
                "500",
            ),
        ],
        "barred": [_barred(request, row) for row in queries.barred_models(workspace)],
        **raise_views.overview(request),
        "suspend_url": url(request, "suspend"),
        "resume_url": url(request, "resume"),
        "live_url": url(request, "guardrails_live"),
        "budget_new_url": url(request, "budget_new"),
        "limit_new_url": url(request, "limit_new"),
    }


def _control(
    request: HttpRequest, kind: Kind, by_kind: dict[Kind, BudgetStatus], title: str, text: str, example: str
) -> dict[str, Any]:
    status = by_kind.get(kind)
    return {
        "kind": kind.value,
        "title": title,
        "text": text,
        "example": example,
        "cap": money.usd_text(status.budget.cap) if status else "",
        "url": url(request, "preset", kind.value),
    }


def _shown(request: HttpRequest, status: BudgetStatus, names: dict[str, str]) -> dict[str, Any]:
    rule = status.budget
    editable = rule.kind is not Kind.PLAN_QUOTA and may(membership_of(request).role, Action.MANAGE_BUDGETS)
    raisable = rule.kind is not Kind.PLAN_QUOTA and may(membership_of(request).role, Action.REQUEST_RAISE)
    raised = rule.cap_at(int(timezone.now().timestamp() * 1000)) - rule.cap
    lines = [status.standing] if status.standing else list(status.values)
    return {
        "id": rule.id,
        "name": rule.name,
        "on": _on(rule.scope, names),
        "period": "in total" if rule.period is Period.TOTAL else f"a {rule.period.value}",
        "cap": shown.amount(rule.cap, rule.unit),
        "raised": shown.amount(raised, rule.unit) if raised else "",
        "raise_url": url(request, "raise_new", rule.id) if raisable else "",
        "does": _STRATEGIES[rule.strategy] if rule.kind is not Kind.PLAN_QUOTA else "your plan",
        "resets_at": status.resets_at,
        "lines": [_line(line, rule.unit, rule.scope, names) for line in lines],
        "is_each": rule.scope.each,
        "more": max(0, status.value_count - len(status.values)),
        "stopped": status.stopped_count,
        "edit_url": url(request, "budget_edit", rule.id) if editable else "",
    }


def _barred(request: HttpRequest, row: BarredModel) -> dict[str, Any]:
    may_lift = may(membership_of(request).role, Action.MANAGE_BUDGETS)
    return {
        "name": str(row),
        "held": row.held_nano,
        "cost": row.cost_nano,
        "since": row.barred_at,
        "lift_url": url(request, "bar_lift", row.pk) if may_lift else "",
    }


def _line(line: Standing, unit: Unit, scope: Scope, names: dict[str, str]) -> dict[str, Any]:
    value = names.get(line.value, line.value) if scope.by == Dimension.VIRTUAL_KEY else line.value
    return {
        "value": value,
        "settled": line.settled,
        "held": line.held,
        "cap": line.cap,
        "used_text": shown.amount(line.used, unit),
        "held_text": shown.amount(line.held, unit) if line.held else "",
        "cap_text": shown.amount(line.cap, unit),
        "left_text": shown.amount(line.left, unit),
        "over_text": shown.amount(line.over, unit) if line.over else "",
        "percent": line.percent,
        "tone": _TONES[line.stage],
        "pill": _PILLS[line.stage],
        "stage": _STAGES[line.stage],
    }


def _limit(request: HttpRequest, row: RateLimit, names: dict[str, str]) -> dict[str, Any]:
    editable = may(membership_of(request).role, Action.MANAGE_LIMITS)
    return {
        "on": _on(row.scope, names),
        "limit": f"{row.limit:,}",
        "what": WHAT[Metric(row.metric)],
        "edit_url": url(request, "limit_edit", row.pk) if editable else "",
    }


def _on(scope: Scope, names: dict[str, str]) -> str:
    if not scope.by:
        return "the whole workspace"
    noun = dict(SCOPES).get(scope.by, scope.by).partition(" ")[2] or scope.by.replace("tag:", "tag ")
    if scope.each:
        return f"each {noun}"
    return f"{noun} {names.get(scope.value or '', scope.value or '')}"


def _key_names(request: HttpRequest) -> dict[str, str]:
    return dict(_keys(request))


def _keys(request: HttpRequest) -> list[tuple[str, str]]:
    return [(str(key.id), key.name) for key in workspace_reads.keys_of(workspace_of(request))]


def _beside(error: Refused, form: forms.Form) -> Refused:
    """The refusal beside the field of the form that says what the limit is on."""
    if error.field == "value" and form.cleaned_data.get("scope", "") == Dimension.VIRTUAL_KEY:
        error.field = "key"
    elif error.field == "scope" and form.cleaned_data.get("scope") == "tag":
        error.field = "tag"
    elif error.field == "value" and not form.cleaned_data.get("scope"):
        error.field = "scope"
    return error
