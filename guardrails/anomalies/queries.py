"""Reading incidents and wishes of the entered workspace."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from guardrails.anomalies.models import Feedback, Incident
from workspaces.errors import NotThere
from workspaces.models import Workspace

STATES = ("open", "ended", "all")


def incidents(workspace: Workspace, *, state: str = "all", kind: str = "") -> QuerySet[Incident]:
    """`open`: going on and not called expected."""
    rows = Incident.objects.filter(workspace_id=workspace.pk)
    if state == "open":
        rows = rows.filter(ended_at=None).exclude(feedback=Feedback.EXPECTED)
    elif state == "ended":
        rows = rows.filter(ended_at__isnull=False)
    return rows.filter(kind=kind) if kind else rows


def incident(workspace: Workspace, incident_id: UUID) -> Incident:
    found = Incident.objects.filter(workspace_id=workspace.pk, pk=incident_id).first()
    if found is None:
        raise NotThere("There is no such anomaly in this workspace.")
    return found
