"""What waste adds to pages and mails, at start-up: a line on the overview, two sections of the week's digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest

from billing.ledger.queries import Days
from billing.views import panels
from billing.views.amounts import show
from billing.views.panels import Panel, Place
from guardrails.signals import digests
from guardrails.signals.links import address
from guardrails.waste import queries, saying
from guardrails.waste.models import State
from workspaces.models import Workspace
from workspaces.roles import Action
from workspaces.views.frame import url, workspace_of

MOST_ROWS: Final = 3


def connect() -> None:
    panels.register(Panel("waste", Place.STATUS, Action.SEE_SPEND, "waste/status.html", status, order=50))
    digests.SECTIONS.extend(section for section in (savings, waste) if section not in digests.SECTIONS)


def status(request: HttpRequest) -> Mapping[str, Any]:
    """What of the last thirty days bought nothing, and what levers have saved."""
    found = queries.summary(workspace_of(request))
    return {
        "waste_nano": found.waste_nano,
        "findings": found.findings,
        "saved_nano": max(0, found.saved_nano),
        "url": url(request, "waste"),
    }


def savings(workspace: Workspace, week: Days) -> dict[str, Any]:
    """Of the week's digest: what levers saved, said also where that is nothing."""
    here = address("waste", workspace.slug)
    if not queries.findings(workspace, state=State.PULLED).exists():
        return {"title": "Savings", "rows": [["No lever was pulled yet", show(0), "", here]]}
    in_week, in_all = queries.saved_nano(workspace, week.first, week.last), queries.saved_nano(workspace)
    rows = [["Saved this week by what you changed", show(max(0, in_week)), "", here]]
    if in_all > max(0, in_week):
        rows.append(["Since the levers were pulled", show(in_all), "", here])
    return {"title": "Savings", "rows": rows}


def waste(workspace: Workspace, week: Days) -> dict[str, Any]:
    """Of the week's digest: the dearest findings that are open; or that there are none, or that nobody looked yet."""
    here = address("waste", workspace.slug)
    rows = []
    open_rows = queries.findings(workspace, state=State.OPEN).filter(waste_nano__gt=0).order_by("-waste_nano", "-id")
    for row in open_rows[:MOST_ROWS]:
        beside = f"of {show(row.cost_nano)} in 30 days"
        rows.append([saying.title(row), show(row.waste_nano), beside, address("waste_finding", workspace.slug, row.pk)])
    if rows:
        found = queries.summary(workspace)
        rows.append(["All waste that is open, last 30 days", show(found.waste_nano), "", here])
    elif queries.look(workspace).looked_at is None:
        rows.append(["Looked for", "not yet", "", here])
    else:
        rows.append(["No waste found, last 30 days", show(0), "", here])
    return {"title": "Waste", "rows": rows}
