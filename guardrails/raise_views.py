"""Raises in the browser: a member asks, somebody who manages budgets decides, and everybody sees what is in force."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from guardrails import actions, queries, shown
from guardrails.domain.budgets import Kind, Unit
from guardrails.forms import UNTIL_RESET, RaiseForm
from guardrails.models import NEXT_OF_RAISE, Raise, RaiseState
from workspaces.errors import NotThere, Refused, WrongState
from workspaces.roles import Action, may
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page

LONGEST_RESET = timedelta(days=365)
_ENDED_SHOWN = 10
_PILLS = {
    RaiseState.REQUESTED: "warn",
    RaiseState.APPROVED: "good",
    RaiseState.DECLINED: "bad",
    RaiseState.WITHDRAWN: "plain",
}


@workspace_page(Action.REQUEST_RAISE, methods=("GET", "POST"))
def raise_new(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    """Ask for a raise, or give it in one step where one may."""
    workspace, now = workspace_of(request), timezone.now()
    status = queries.budget(workspace, budget_id, now, values=False)
    if status is None or status.budget.kind is Kind.PLAN_QUOTA:
        raise NotThere("There is no such budget in this workspace.")
    rule, decides = status.budget, _decides(request)
    resets_at = status.resets_at if status.resets_at and status.resets_at < now + LONGEST_RESET else None
    resets = f"{resets_at.astimezone(ZoneInfo(workspace.time_zone)):%-d %b %H:%M}" if resets_at else ""
    form = RaiseForm(request.POST or None, resets=resets)
    if form.is_valid():
        act = actions.grant_raise if decides else actions.request_raise
        try:
            row = act(
                workspace=workspace,
                by=actor(request),
                budget_id=budget_id,
                amount=form.cleaned_data["amount"].strip().removeprefix("$"),
                reason=form.cleaned_data["reason"],
                expires_at=_ends(form, now, resets_at),
            )
        except Refused as error:
            refuse(form, error)
        else:
            more = shown.amount(row.amount, rule.unit)
            messages.success(
                request,
                f"{rule.name}: {more} more from the next call on."
                if decides
                else f"Asked for {more} more. It counts once somebody approves it.",
            )
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "budget": {
            "name": rule.name,
            "cap": shown.amount(rule.cap, rule.unit),
            "unit": "dollars" if rule.unit is Unit.USD else rule.unit.value,
            "is_each": rule.scope.each,
        },
        "decides": decides,
        "action_url": url(request, "raise_new", budget_id),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/raise_new.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def raise_approve(request: HttpRequest, raise_id: UUID) -> HttpResponse:
    return _decided(request, raise_id, approve=True)


@workspace_page(Action.MANAGE_BUDGETS, methods=("POST",))
def raise_decline(request: HttpRequest, raise_id: UUID) -> HttpResponse:
    return _decided(request, raise_id, approve=False)


@workspace_page(Action.REQUEST_RAISE, methods=("POST",))
def raise_withdraw(request: HttpRequest, raise_id: UUID) -> HttpResponse:
    try:
        actions.withdraw_raise(workspace=workspace_of(request), by=actor(request), raise_id=raise_id)
    except WrongState as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Withdrawn. The cap is what it was, from the next call on.")
    return redirect(url(request, "guardrails"))


def _decided(request: HttpRequest, raise_id: UUID, *, approve: bool) -> HttpResponse:
    try:
        row = actions.decide_raise(
            workspace=workspace_of(request), by=actor(request), raise_id=raise_id, approve=approve
        )
    except WrongState as error:  # somebody else was faster, or it expired meanwhile
        messages.error(request, str(error))
    else:
        more = shown.amount(row.amount, Unit(row.budget.unit))
        told = f"{row.budget.name}: {more} more from the next call on." if approve else "Declined. The cap stays."
        messages.success(request, told)
    return redirect(url(request, "guardrails"))


def _ends(form: RaiseForm, now: datetime, resets_at: datetime | None) -> datetime:
    lasts = form.cleaned_data["lasts"]
    return resets_at if lasts == UNTIL_RESET and resets_at else now + timedelta(days=int(lasts))


def _decides(request: HttpRequest) -> bool:
    return may(membership_of(request).role, Action.MANAGE_BUDGETS)


# --- What the pages show ----------------------------------------------------------------------------------------------
def overview(request: HttpRequest) -> dict[str, Any]:
    """The open requests, what is in force, and the last that ended, in this order."""
    now, rows = timezone.now(), queries.raises(workspace_of(request))
    asked = [row for row in rows if row.state == RaiseState.REQUESTED and row.expires_at > now]
    in_force = [row for row in rows if row.in_force_at(now)]
    open_ones = {row.pk for row in (*asked, *in_force)}
    ended = [row for row in rows if row.pk not in open_ones][:_ENDED_SHOWN]
    return {
        "raises": [_row(request, row, now) for row in (*asked, *in_force, *ended)],
        "raises_open": len(asked),
    }


def _row(request: HttpRequest, row: Raise, now: datetime) -> dict[str, Any]:
    decides, is_over = _decides(request), row.expires_at <= now
    open_request = row.state == RaiseState.REQUESTED and not is_over
    mine = row.requested_by == actor(request).name and row.state == RaiseState.REQUESTED
    may_end = not is_over and RaiseState.WITHDRAWN in NEXT_OF_RAISE[row.state]
    may_end = may_end and may(membership_of(request).role, Action.REQUEST_RAISE) and (mine or decides)
    return {
        "id": str(row.pk),
        "budget": row.budget.name,
        "more": shown.amount(row.amount, Unit(row.budget.unit)),
        "reason": row.reason,
        "by": row.requested_by,
        "decided_by": row.decided_by if row.decided_by != row.requested_by else "",
        "until": row.expires_at,
        "is_over": is_over,
        "state": _state(row, is_over),
        "pill": "plain" if is_over else _PILLS[RaiseState(row.state)],
        "approve_url": url(request, "raise_approve", row.pk) if open_request and decides else "",
        "decline_url": url(request, "raise_decline", row.pk) if open_request and decides else "",
        "withdraw_url": url(request, "raise_withdraw", row.pk) if may_end and (mine or not open_request) else "",
        "withdraw_label": "Withdraw" if open_request else "End now",
    }


def _state(row: Raise, is_over: bool) -> str:
    if is_over and row.state in (RaiseState.REQUESTED, RaiseState.APPROVED):
        return "ended" if row.state == RaiseState.APPROVED else "expired"
    return "in force" if row.state == RaiseState.APPROVED else RaiseState(row.state).label.lower()
