"""What signals hear of and add to, at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from billing.views import panels
from billing.views.panels import Panel, Place
from guardrails.signals import queries, stages
from guardrails.signals.models import Severity
from workspaces import policy_signal
from workspaces.models import Workspace
from workspaces.policy_signal import PolicyChange
from workspaces.roles import Action
from workspaces.views import frame


def connect() -> None:
    policy_signal.register(_policy_changed)
    frame.BADGES["alerts"] = _unseen
    panels.register(
        Panel("alerts", Place.STATUS, Action.SEE_BUDGETS, "signals/on_overview.html", on_overview, order=10)
    )


def _policy_changed(change: PolicyChange) -> None:
    """A cap may have been raised: whoever was stopped by it is told when it lets calls through again."""
    workspace = Workspace.objects.filter(pk=change.workspace_id).first()
    if workspace is not None:
        stages.look_soon(workspace)


def on_overview(request: HttpRequest) -> Mapping[str, Any]:
    """How many alerts are open, and the one to look at first."""
    count, first = queries.standing(frame.workspace_of(request))
    shown = {"title": first.title, "at": first.at, "url": frame.url(request, "alert", first.id)} if first else None
    return {
        "count": count,
        "is_more": count >= queries.MOST_COUNTED,
        "first": shown,
        "tone": ""
        if first is None or first.severity == Severity.INFO
        else "bad"
        if first.severity == Severity.CRITICAL
        else "warn",
        "url": frame.url(request, "alerts"),
    }


def _unseen(request: HttpRequest) -> int:
    return queries.unseen(frame.workspace_of(request), frame.membership_of(request))
