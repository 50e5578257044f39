"""What anomalies add to, at start-up."""

from __future__ import annotations

from typing import Any

from billing.ledger import queries as books
from billing.ledger.queries import Days
from billing.views import panels
from billing.views.amounts import show
from billing.views.panels import Panel, Place
from guardrails.anomalies import queries, telling, views
from guardrails.anomalies.models import Feedback
from guardrails.signals import digests
from guardrails.signals import views as signals
from guardrails.signals.links import address
from workspaces.models import Workspace
from workspaces.roles import Action

MOST_IN_DIGEST = 5


def connect() -> None:
    panels.register(
        Panel(
            "anomalies", Place.STATUS, Action.SEE_ANOMALIES, "anomalies/on_overview.html", views.on_overview, order=20
        )
    )
    if _in_digest not in digests.SECTIONS:
        digests.SECTIONS.append(_in_digest)
    signals.LABELS[telling.NOTICE] = "Anomaly"


def _in_digest(workspace: Workspace, week: Days) -> dict[str, Any]:
    """The dearest incidents of the week; that there were none is said, too."""
    since, until = books.moments(workspace, week)
    rows = queries.incidents(workspace).filter(started_at__gte=since, started_at__lt=until)
    found = list(rows.exclude(feedback=Feedback.EXPECTED).order_by("-cost_nano")[:MOST_IN_DIGEST])
    if not found:
        return {"title": "Anomalies", "rows": [["Of the week", "none", "", address("anomalies", workspace.slug)]]}
    return {
        "title": "Anomalies, the dearest first",
        "rows": [
            [
                f"{telling.LABELS[one.kind]}: {telling.driver(workspace, one)}", show(one.cost_nano),
                "goes on" if one.ended_at is None else "over", address("anomaly", workspace.slug, one.pk),
            ]
            for one in found
        ],
    }  # fmt: skip
