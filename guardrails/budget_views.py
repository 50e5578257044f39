"""Budgets in the browser: made, changed and deleted, and tried out before any of it.

One form does both. With htmx its preview follows what is typed and the backtest is one click; without JavaScript the same button sends
the form, and the page comes back with what was typed, the preview and the backtest.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from billing.domain import money
from guardrails import actions, drafts, page_parts, queries, tryout
from guardrails.domain.budgets import Kind, Unit
from guardrails.forms import NAMED_SCOPES, RESET_DAYS, BudgetForm, BudgetSettingsForm, beside
from guardrails.models import Budget
from guardrails.queries import BudgetStatus
from workspaces.errors import NotThere, Refused
from workspaces.roles import Action
from workspaces.views.frame import actor, framed, page, refuse, url, workspace_of, workspace_page

PREVIEW, BACKTEST = "preview", "backtest"
"""What a button of the form may ask for instead of saving."""


@workspace_page(Action.MANAGE_BUDGETS, methods=("GET", "POST"))
def budget_new(request: HttpRequest) -> HttpResponse:
    form = BudgetForm(request.POST or None, keys=page_parts.key_choices(request), initial=_begun(request))
    tried: dict[str, Any] = {}
    if form.is_valid():
        try:
            if _asks(request):
                tried = _tried(request, _draft_of(request, form))
            else:
                actions.create_budget(workspace=workspace_of(request), by=actor(request), **_given(form))
        except Refused as error:
            refuse(form, beside(error, form))
        else:
            if not tried:
                messages.success(request, "The budget holds from the next call on.")
                return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "named_scopes": NAMED_SCOPES,
        "action_url": url(request, "budget_new"),
        "try_url": url(request, "budget_try"),
        "back_url": url(request, "guardrails"),
        **tried,
    }
    return page(request, "guardrails/budget_new.html", "guardrails", context, status=422 if form.errors else 200)


def _begun(request: HttpRequest) -> dict[str, str]:
    """What a link to the form has filled in already: pages that show a member, a key or a customer know what the cap is to be on."""
    return {name: request.GET[name][:128] for name in ("scope", "value", "key") if name in request.GET}


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def budget_try(request: HttpRequest) -> HttpResponse:
    """The preview, or the backtest, of what stands in the form for a new budget: a fragment. What cannot be is said when it is sent."""
    form = BudgetForm(request.POST, keys=page_parts.key_choices(request))
    tried: dict[str, Any] = {}
    if form.is_valid():
        try:
            tried = _tried(request, _draft_of(request, form))
        except Refused as error:
            tried = {"cannot": str(error)}
    return _fragment(request, tried)


@workspace_page(Action.MANAGE_BUDGETS, methods=("GET", "POST"))
def budget_edit(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    status = _found(request, budget_id)
    form = _settings_form(request, status)
    tried: dict[str, Any] = {}
    if form.is_valid():
        try:
            if _asks(request):
                tried = _tried(request, _draft_change(request, budget_id, form), status)
            else:
                actions.update_budget(
                    workspace=workspace_of(request), by=actor(request), budget_id=budget_id, **_changes(form)
                )
        except Refused as error:
            refuse(form, error)
        else:
            if not tried:
                messages.success(request, "Saved. It holds from the next call on.")
                return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "budget": page_parts.budget(request, status, dict(page_parts.key_choices(request))),
        "action_url": url(request, "budget_edit", budget_id),
        "try_url": url(request, "budget_try_change", budget_id),
        "delete_url": url(request, "budget_delete", budget_id),
        "back_url": url(request, "guardrails"),
        **tried,
    }
    return page(request, "guardrails/budget_edit.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def budget_try_change(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    """As `budget_try`, for a budget that exists."""
    status = _found(request, budget_id)
    form = _settings_form(request, status)
    tried: dict[str, Any] = {}
    if form.is_valid():
        try:
            tried = _tried(request, _draft_change(request, budget_id, form), status)
        except Refused as error:
            tried = {"cannot": str(error)}
    return _fragment(request, tried)


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",), confirmed_by="guardrails")
def budget_delete(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    actions.delete_budget(workspace=workspace_of(request), by=actor(request), budget_id=budget_id)
    messages.success(request, "The budget is gone. Nothing is held back by it any more.")
    return redirect(url(request, "guardrails"))


# --- Parts ------------------------------------------------------------------------------------------------------------
def _asks(request: HttpRequest) -> bool:
    return request.POST.get("do") in (PREVIEW, BACKTEST)


def _found(request: HttpRequest, budget_id: UUID) -> BudgetStatus:
    status = queries.budget(workspace_of(request), budget_id, timezone.now())
    if status is None or status.budget.kind is Kind.PLAN_QUOTA:
        raise NotThere("There is no such budget in this workspace.")
    return status


def _settings_form(request: HttpRequest, status: BudgetStatus) -> BudgetSettingsForm:
    rule = status.budget
    initial = {
        "name": rule.name,
        "cap": money.usd_text(rule.cap) if rule.unit is Unit.USD else str(rule.cap),
        "strategy": rule.strategy.value,
        "alert_percent": rule.alert_percent,
        "throttle_percent": rule.throttle_percent,
        "kill_percent": rule.kill_percent,
        "throttle_per_minute": rule.throttle_per_minute or "",
        "notify": ", ".join(map(str, queries.notify_of(workspace_of(request), rule.id))),
        "reset_day": rule.eras[-1].reset_day,
        "on_tight": rule.on_tight.value,
        "message": rule.message,
        "upgrade_url": rule.upgrade_url,
    }
    form = BudgetSettingsForm(request.POST or None, initial=initial)
    if rule.period.value not in RESET_DAYS:
        del form.fields["reset_day"]
    return form


def _given(form: BudgetForm) -> dict[str, Any]:
    """The keywords of `actions.create_budget`."""
    given = form.cleaned_data
    return {"name": given["name"], "period": given["period"], "unit": given["unit"], **form.on(), **form.settings()}


def _changes(form: BudgetSettingsForm) -> dict[str, Any]:
    """The keywords of `actions.update_budget`."""
    return form.settings() | ({"name": form.cleaned_data["name"]} if form.cleaned_data["name"] else {})


def _draft_of(request: HttpRequest, form: BudgetForm) -> Budget:
    return actions.draft_budget(workspace=workspace_of(request), by=actor(request), **_given(form))


def _draft_change(request: HttpRequest, budget_id: UUID, form: BudgetSettingsForm) -> Budget:
    return actions.draft_change(workspace=workspace_of(request), budget_id=budget_id, **_changes(form))


def _tried(request: HttpRequest, draft: Budget, status: BudgetStatus | None = None) -> dict[str, Any]:
    """`preview`, and where it was asked for `backtest`, of a draft."""
    workspace, now, rule = workspace_of(request), timezone.now(), draft.rule()
    names = dict(page_parts.key_choices(request))
    used = status.standing.used if status and status.standing else 0
    found = drafts.preview(workspace, rule, now, used=used)
    tried = {"preview": tryout.preview(found, rule, names, zone=workspace.time_zone, is_new=status is None)}
    if request.POST.get("do") == BACKTEST or request.POST.get("past"):  # once asked for, it follows the form
        tried["backtest"] = tryout.backtest(drafts.run_backtest(workspace, rule, now), rule, names)
    return tried


def _fragment(request: HttpRequest, tried: dict[str, Any]) -> HttpResponse:
    return render(request, "guardrails/tryout.html", framed(request, "guardrails") | tried)
