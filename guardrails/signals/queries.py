"""Reading notices, preferences and endpoints of the entered workspace."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.db.models import Count, Exists, Max, Q, QuerySet, Subquery

from guardrails.signals.models import Delivery, DeliveryState, Endpoint, Kind, Notice, Preference
from workspaces.errors import NotThere
from workspaces.models import Membership, Workspace

A_PAGE: Final = 50
MOST_COUNTED: Final = 99


def notices(
    workspace: Workspace,
    *,
    archived: bool | None = False,
    kind: str = "",
    severity: str = "",
    budget_id: UUID | None = None,
) -> QuerySet[Notice]:
    """`archived`: only those that are (or are not); None: both."""
    rows = Notice.objects.filter(workspace_id=workspace.pk)
    if archived is not None:
        rows = rows.filter(archived_at__isnull=not archived)
    if kind:
        rows = rows.filter(kind=kind)
    if severity:
        rows = rows.filter(severity=severity)
    return rows if budget_id is None else rows.filter(budget_id=budget_id)


def notice(workspace: Workspace, notice_id: UUID) -> Notice:
    found = Notice.objects.filter(workspace_id=workspace.pk, pk=notice_id).first()
    if found is None:
        raise NotThere("There is no such alert in this workspace.")
    return found


def kinds(workspace: Workspace) -> list[str]:
    """The kinds that there are: the known ones and those that detectors brought."""
    found = Notice.objects.filter(workspace_id=workspace.pk).order_by().values_list("kind", flat=True).distinct()
    return [kind for kind in Kind.values if kind in set(found)] + sorted(set(found) - set(Kind.values))


def unseen(workspace: Workspace, membership: Membership) -> int:
    """How many open notices came since the member last looked, up to `MOST_COUNTED`."""
    looked = Preference.objects.filter(workspace_id=workspace.pk, user_id=membership.user_id, seen_id__isnull=False)
    rows = notices(workspace).exclude(kind=Kind.DIGEST)  # one query: the bell is on every page
    rows = rows.filter(
        Q(id__gt=Subquery(looked.values("seen_id")[:1])) | Q(~Exists(looked), made_at__gte=membership.created_at)
    )
    return len(rows.order_by("-id").values_list("id", flat=True)[:MOST_COUNTED])


# --- Endpoints --------------------------------------------------------------------------------------------------------
def endpoints(workspace: Workspace) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(workspace_id=workspace.pk).annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state=DeliveryState.WAITING)),
        last_sent_at=Max("deliveries__ended_at", filter=Q(deliveries__state=DeliveryState.SENT)),
    )


def endpoint(workspace: Workspace, endpoint_id: UUID) -> Endpoint:
    found = endpoints(workspace).filter(pk=endpoint_id).first()
    if found is None:
        raise NotThere("There is no such webhook in this workspace.")
    return found


def deliveries(workspace: Workspace, endpoint: Endpoint) -> QuerySet[Delivery]:
    """The delivery log, newest first."""
    return (
        Delivery.objects.select_related("notice").filter(workspace_id=workspace.pk, endpoint=endpoint).order_by("-id")
    )
