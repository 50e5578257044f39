"""Reading findings and savings of the entered workspace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db.models import CharField, Count, F, QuerySet, Sum, Value

from guardrails.domain.waste.values import Category
from guardrails.waste.models import Finding, Look, Saving, State
from workspaces.errors import NotThere
from workspaces.models import Workspace


def findings(workspace: Workspace, *, state: str = "", category: str = "") -> QuerySet[Finding]:
    """With `saved_nano`: what their lever has saved so far (None: no whole day yet)."""
    rows = Finding.objects.filter(workspace_id=workspace.pk)
    if state:
        rows = rows.filter(state=state)
    if category:
        rows = rows.filter(category=category)
    return rows.annotate(
        saved_nano=Sum(F("savings__would_have_nano") - F("savings__cost_nano")), saved_days=Count("savings")
    )


def finding(workspace: Workspace, finding_id: UUID) -> Finding:
    found = findings(workspace).filter(pk=finding_id).first()
    if found is None:
        raise NotThere("There is no such finding in this workspace.")
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    waste_nano: int
    """Open findings, last thirty days."""
    findings: int
    by_category: dict[str, int]
    saved_nano: int
    """All that levers have saved so far, what they cost more subtracted."""


_SAVED = "saved"
"""No category: the row of what levers saved."""


def summary(workspace: Workspace) -> Summary:
    rows = Finding.objects.filter(workspace_id=workspace.pk, state=State.OPEN).order_by()
    open_sums = rows.values("category").annotate(waste=Sum("waste_nano"), count=Count("id"))
    saved = Saving.objects.filter(workspace_id=workspace.pk).order_by().values(kind=Value(_SAVED, CharField()))
    saved = saved.annotate(waste=Sum(F("would_have_nano") - F("cost_nano")), count=Count("id"))
    both = open_sums.values_list("category", "waste", "count").union(
        saved.values_list("kind", "waste", "count"), all=True
    )  # one question: the overview asks it, too
    sums = {category: (int(waste or 0), count) for category, waste, count in both}
    saved_nano, _ = sums.pop(_SAVED, (0, 0))
    by_category = {one.value: sums[one][0] for one in Category if one in sums}
    return Summary(
        waste_nano=sum(by_category.values()),
        findings=sum(count for _, count in sums.values()),
        by_category=by_category,
        saved_nano=saved_nano,
    )


def saved_nano(workspace: Workspace, first: date | None = None, last: date | None = None) -> int:
    """Of some days (both included), or of all."""
    rows = Saving.objects.filter(workspace_id=workspace.pk)
    if first is not None and last is not None:
        rows = rows.filter(day__gte=first, day__lte=last)
    return rows.aggregate(saved=Sum(F("would_have_nano") - F("cost_nano")))["saved"] or 0


def look(workspace: Workspace) -> Look:
    return Look.objects.filter(workspace_id=workspace.pk).first() or Look(workspace_id=workspace.pk)
