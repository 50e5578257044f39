"""The waste page, and one finding with its evidence and levers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import urlencode

from billing.ledger import queries as books
from guardrails.domain.waste.values import Category
from guardrails.waste import actions, levers, queries, saying
from guardrails.waste.levers import Lever
from guardrails.waste.looking import WINDOW_DAYS, place_of
from guardrails.waste.models import Finding, State
from workspaces.errors import NotAllowed, NotThere, Refused
from workspaces.roles import Action, may
from workspaces.views.frame import actor, membership_of, page, url, workspace_of, workspace_page

MOST_SHOWN = 200
TABS = {"": "Open", State.PULLED: "Acted on", State.DISMISSED: "Dismissed", State.GONE: "Gone"}


@workspace_page(Action.SEE_SPEND)
def waste(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    state = request.GET.get("state", "")
    state = state if state in TABS else ""
    rows = list(queries.findings(workspace, state=state or State.OPEN).order_by("-waste_nano", "-id")[:MOST_SHOWN])
    look = queries.look(workspace)
    summary = queries.summary(workspace)
    context = {
        "groups": _groups(request, rows),
        "tabs": [
            {"title": title, "url": url(request, "waste") + (f"?state={name}" if name else ""), "is_current": name == state}
            for name, title in TABS.items()
        ],
        "is_open": not state,
        "summary": {"waste_nano": summary.waste_nano, "saved_nano": summary.saved_nano, "findings": summary.findings},
        "looked_at": look.looked_at,
        "is_asked": look.asked_at is not None and (look.looked_at is None or look.looked_at < look.asked_at),
        "fingerprints": workspace.fingerprints,
        "look_url": url(request, "waste_look"),
        "fingerprints_url": url(request, "waste_fingerprints"),
    }  # fmt: skip
    return page(request, "waste/waste.html", "waste", context)


def _groups(request: HttpRequest, rows: list[Finding]) -> list[dict[str, Any]]:
    """By category, the dearest first."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        category = Category(row.category)
        group = groups.setdefault(
            category, {"name": saying.NAMES[category], "why": saying.WHY[category], "waste_nano": 0, "rows": []}
        )
        group["waste_nano"] += row.waste_nano
        group["rows"].append(_row(request, row))
    return list(groups.values())


def _row(request: HttpRequest, row: Finding) -> dict[str, Any]:
    return {
        "place": saying.place(row),
        "url": url(request, "waste_finding", row.pk),
        "waste_nano": row.waste_nano,
        "cost_nano": row.cost_nano,
        "calls": row.calls,
        "is_free": row.category == Category.IDLE_KEYS,
        "is_most": bool(row.assumed_nano) or row.category == Category.ABORTED,
        "saved_nano": getattr(row, "saved_nano", None),
        "state": row.state,
    }


@workspace_page(Action.SEE_SPEND)
def waste_finding(request: HttpRequest, finding_id: UUID) -> HttpResponse:
    return _finding_page(request, queries.finding(workspace_of(request), finding_id))


def _finding_page(request: HttpRequest, row: Finding, problem: str = "", status: int = 200) -> HttpResponse:
    role = membership_of(request).role
    sees_calls = may(role, Action.SEE_CALLS)
    offered = (
        [saying.offer(row, lever) for lever in levers.levers_of(row)]
        if row.state in (State.OPEN, State.DISMISSED)
        else []
    )
    is_pulled = row.state == State.PULLED
    savings = list(row.savings.order_by("-day")[:31]) if is_pulled else []
    context = {
        "finding": _row(request, row),
        "title": saying.title(row),
        "why": saying.WHY[Category(row.category)],
        "category": saying.NAMES[Category(row.category)],
        "evidence": saying.evidence(row),
        "days": {"first": row.first_day, "last": row.last_day},
        "samples": [{"id": one, "url": url(request, "call", one)} for one in row.samples] if sees_calls else [],
        "calls_url": _calls_url(request, row) if sees_calls else "",
        "also": _also_moved(request, row) if any(one.lever is Lever.CHEAPER_MODEL for one in offered) else None,
        "offers": [_offer(one, row, role) for one in offered] if may(role, Action.MANAGE_WASTE) else [],
        "is_open": row.state == State.OPEN,
        "is_dismissed": row.state == State.DISMISSED,
        "is_pulled": is_pulled,
        "pulled_label": saying.offer(row, Lever(row.lever)).label if is_pulled else "",
        "can_undo": is_pulled and row.lever != Lever.REVOKE_KEY and may(role, Action.MANAGE_WASTE),
        "decided_at": row.decided_at,
        "decided_by": row.decided_by,
        "reason": row.reason,
        "is_exact": row.lever == Lever.CHEAPER_MODEL,
        "savings": [
            {"day": one.day, "calls": one.calls, "cost_nano": one.cost_nano, "would_have_nano": one.would_have_nano,
             "saved_nano": one.would_have_nano - one.cost_nano}
            for one in savings
        ],
        "problem": problem,
        "waste_url": url(request, "waste"),
        **{f"{name}_url": url(request, f"waste_{name}", row.pk) for name in ("pull", "undo", "dismiss", "restore")},
    }  # fmt: skip
    return page(request, "waste/finding.html", "waste", context, status=status)


def _offer(one: saying.Offer, row: Finding, role: str) -> dict[str, Any]:
    models = row.facts.get("options", {}) if one.lever is Lever.CHEAPER_MODEL else {}
    return {
        "lever": one.lever.value,
        "label": "Answer with the chosen model" if len(models) > 1 else one.label,
        "says": one.says,
        "is_allowed": may(role, levers.RIGHTS[one.lever]),
        "models": [{"name": model, "cost_nano": cost} for model, cost in models.items()],
    }


def _also_moved(request: HttpRequest, row: Finding) -> dict[str, Any] | None:
    """The other calls of the last thirty days that asked for the model: an alias does not know features."""
    workspace = workspace_of(request)
    today = books.today(workspace, timezone.now())
    days = books.Days(today - timedelta(days=WINDOW_DAYS - 1), today)
    whole = {name: value for name, value in place_of(row).items() if name != "feature"}
    others = books.totals(workspace, days, whole) - books.totals(workspace, days, place_of(row))
    return {"calls": others.calls, "cost_nano": others.cost_nano} if others.calls > 0 else None


def _calls_url(request: HttpRequest, row: Finding) -> str:
    if row.category == Category.IDLE_KEYS:
        return ""
    filters = {name: value for name, value in place_of(row).items() if value}
    filters |= {"from": row.first_day.isoformat(), "to": row.last_day.isoformat()}
    return f"{url(request, 'calls')}?{urlencode(filters)}"


# --- Decisions --------------------------------------------------------------------------------------------------------
@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_pull(request: HttpRequest, finding_id: UUID) -> HttpResponse:
    lever, model = request.POST.get("lever", "")[:32], request.POST.get("model", "")[:200]
    return _decide(
        request,
        finding_id,
        lambda **whose: actions.pull(**whose, lever=lever, model=model),
        "Done. What it saves is counted from now on.",
    )


@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_undo(request: HttpRequest, finding_id: UUID) -> HttpResponse:
    return _decide(request, finding_id, actions.undo, "Undone.")


@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_dismiss(request: HttpRequest, finding_id: UUID) -> HttpResponse:
    reason = request.POST.get("reason", "")
    return _decide(
        request, finding_id, lambda **whose: actions.dismiss(**whose, reason=reason), "Dismissed: it counts no more."
    )


@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_restore(request: HttpRequest, finding_id: UUID) -> HttpResponse:
    return _decide(request, finding_id, actions.restore, "It counts again.")


def _decide(request: HttpRequest, finding_id: UUID, act: Callable[..., Finding], said: str) -> HttpResponse:
    workspace = workspace_of(request)
    try:
        act(workspace=workspace, by=actor(request), finding_id=finding_id)
    except (NotThere, NotAllowed):
        raise
    except Refused as error:
        return _finding_page(request, queries.finding(workspace, finding_id), f"{error} {error.hint}".strip(), 422)
    messages.success(request, said)
    return redirect(url(request, "waste_finding", finding_id))


@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_look(request: HttpRequest) -> HttpResponse:
    actions.ask_for_look(workspace=workspace_of(request), by=actor(request))
    messages.success(request, "The last days are read again; this takes up to a minute.")
    return redirect(url(request, "waste"))


@workspace_page(Action.MANAGE_WASTE, methods=("POST",))
def waste_fingerprints(request: HttpRequest) -> HttpResponse:
    on = actions.set_fingerprints(workspace=workspace_of(request), by=actor(request), on=request.POST.get("on") == "1")
    messages.success(request, f"Call fingerprints are {'on' if on else 'off'}, from the next call on.")
    return redirect(url(request, "settings" if request.POST.get("back") == "settings" else "waste"))
