"""Reading notices, preferences and endpoints of the entered workspace."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db.models import Count, Exists, Max, Q, QuerySet, Subquery
from django.utils import timezone

from guardrails.signals.models import Delivery, DeliveryState, Endpoint, Kind, Notice, Preference, Severity
from workspaces.errors import NotThere
from workspaces.models import Membership, Workspace

A_PAGE: Final = 50
MOST_COUNTED: Final = 99
FRESH: Final = timedelta(days=7)
GRAVITY: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


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


def standing(workspace: Workspace) -> tuple[int, Notice | None]:
    """How many notices are open (up to `MOST_COUNTED`), and the one to look at first: of the last week's gravest, the newest. One query."""
    rows = notices(workspace).exclude(kind=Kind.DIGEST).defer("facts").order_by("-id")[:MOST_COUNTED]
    found = list(rows)
    since = timezone.now() - FRESH
    fresh = [one for one in found if one.made_at >= since and one.kind != Kind.NORMAL]
    first = max(
        fresh, key=lambda one: GRAVITY.index(one.severity), default=None
    )  # of equals, max keeps the first: the newest
    return len(found), first


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
