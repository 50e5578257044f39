"""The Guardrails page: the four controls, how far each budget has burnt, raises, limits, and the kill switch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from guardrails import actions, drafts, page_parts, queries, raise_views
from guardrails.cards import RATE_LIMIT, cards
from guardrails.domain.budgets import Kind
from guardrails.forms import AmountForm
from workspaces import actions as workspace_actions
from workspaces.errors import NotThere, Refused, WrongState
from workspaces.models import VirtualKey
from workspaces.roles import Action
from workspaces.views import reads
from workspaces.views.frame import actor, page, refuse, url, workspace_of, workspace_page

KEYS_SHOWN = 8
_PRESETS: dict[str, Callable[..., Any]] = {
    Kind.DAILY_HARD_STOP: actions.daily_hard_stop,
    Kind.MONTHLY_CONTROL: actions.monthly_control,
    Kind.SPEND_ALERT: actions.spend_alert,
}


@workspace_page(Action.SEE_BUDGETS)
def guardrails(request: HttpRequest) -> HttpResponse:
    return page(request, "guardrails/guardrails.html", "guardrails", _overview(request))


@workspace_page(Action.SEE_BUDGETS)
def guardrails_live(request: HttpRequest) -> HttpResponse:
    """All that moves on the page in one light request: budgets, how the controls stand, raises."""
    may = {action.value: page_parts.allowed(request, action) for action in Action}
    context = {"may": may, "zone": workspace_of(request).time_zone, "is_fragment": True}
    return render(request, "guardrails/moving.html", context | _moving(request, drafts.UNKNOWN))


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def preset(request: HttpRequest, kind: str) -> HttpResponse:
    """One of the four controls, made or set to another amount."""
    if kind == RATE_LIMIT and not page_parts.allowed(request, Action.MANAGE_LIMITS):
        raise NotThere("There is no such control.")
    if kind != RATE_LIMIT and kind not in _PRESETS:
        raise NotThere("There is no such control.")
    form = AmountForm(request.POST)
    if form.is_valid():
        written = form.cleaned_data["cap"].strip().removeprefix("$")
        try:
            told = _set(request, kind, written)
        except Refused as error:
            error.field = "cap"
            refuse(form, error)
        else:
            messages.success(request, f"{told} It holds from the next call on.")
            return redirect(url(request, "guardrails"))
    return page(request, "guardrails/guardrails.html", "guardrails", _overview(request, kind, form), status=422)


def _set(request: HttpRequest, kind: str, written: str) -> str:
    workspace, by = workspace_of(request), actor(request)
    if kind == RATE_LIMIT:
        row = actions.each_key_limit(workspace=workspace, by=by, limit=written)
        return f"{row.limit:,} requests a minute for each virtual key."
    budget = _PRESETS[kind](workspace=workspace, by=by, cap_usd=written)
    return f"{budget.name}: {page_parts.amount(budget.cap, budget.rule().unit)}."


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


# --- What the page shows ----------------------------------------------------------------------------------------------
def _overview(request: HttpRequest, refused: str = "", form: forms.Form | None = None) -> dict[str, Any]:
    workspace = workspace_of(request)
    return {
        **_moving(request, drafts.usual(workspace, timezone.now()), refused, form),
        "barred": [page_parts.barred(request, row) for row in queries.barred_models(workspace)],
        "suspend_url": url(request, "suspend"),
        "resume_url": url(request, "resume"),
        "budget_new_url": url(request, "budget_new"),
        "limit_new_url": url(request, "limit_new"),
    }


def _moving(
    request: HttpRequest, usual: drafts.Usual, refused: str = "", form: forms.Form | None = None
) -> dict[str, Any]:
    workspace, now = workspace_of(request), timezone.now()
    keys = page_parts.keys_of(request)
    names = {str(key.id): key.name for key in keys}
    found = queries.budgets(workspace, now)
    limits = queries.rate_limits(workspace)
    return {
        "cards": cards(request, found, limits, usual, refused, form),
        "budgets": [page_parts.budget(request, status, names) for status in found],
        "is_live": all(status.live for status in found),
        "limits": [page_parts.limit(request, row, names) for row in limits],
        "live_url": url(request, "guardrails_live"),
        **_stoppable(request, keys),
        **raise_views.overview(request),
    }


def _stoppable(request: HttpRequest, keys: list[VirtualKey]) -> dict[str, Any]:
    """The keys that could be stopped one by one, those used last first."""
    if not page_parts.allowed(request, Action.MANAGE_KEYS):
        return {"stop_keys": [], "stop_more": 0, "keys_url": ""}
    now = timezone.now()
    working = [key for key in keys if reads.is_working(key, now)]
    working.sort(key=lambda key: (key.last_used_at is not None, key.last_used_at or key.created_at), reverse=True)
    shown = [
        {
            "name": key.name,
            "environment": key.environment,
            "last_used_at": key.last_used_at,
            "url": url(request, "key", key.pk),
            "revoke_url": url(request, "key_revoke", key.pk),
        }
        for key in working[:KEYS_SHOWN]
    ]
    return {"stop_keys": shown, "stop_more": len(working) - len(shown), "keys_url": url(request, "keys")}
